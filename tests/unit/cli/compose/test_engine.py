"""How the `docker` command is run, and the errors when it cannot be."""

import subprocess
from pathlib import Path

import pytest

from mesh_cli.compose.engine import Engine, Output, run
from mesh_cli.errors import CliError


def test_a_folder_without_compose_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"no compose\.yaml in"):
        Engine(tmp_path).compose("ps")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (FileNotFoundError(), "install Docker"),
        (subprocess.TimeoutExpired("docker", 1), "`docker compose ps` did not end"),
    ],
)
def test_a_docker_that_cannot_be_run_is_an_error_that_says_why(
    tmp_path: Path, failure: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        raise failure

    (tmp_path / "compose.yaml").write_text("")
    with pytest.raises(CliError, match=words):
        Engine(tmp_path, fail).compose("ps", "--all")


@pytest.mark.parametrize("output", ["captured", "stdout", "stderr"])
def test_commands_run_in_the_folder_and_print_where_they_are_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], output: Output
) -> None:
    result = run(["sh", "-c", "pwd; cat"], folder=tmp_path, stdin="given", output="captured")
    assert result.stdout == f"{tmp_path}\ngiven"
    assert run(["pwd"], folder=tmp_path, stdin="", output=output).returncode == 0
    printed = capfd.readouterr()
    expected = f"{tmp_path}\n"
    assert printed.out == (expected if output == "stdout" else "")
    assert printed.err == (expected if output == "stderr" else "")
