"""Which mesh a verb speaks to."""

import pytest
from typer.testing import CliRunner

from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.main import app
from mesh_cli.verbs import context
from tests.unit.cli.compose_command import ComposeCommand


def test_local_is_the_default_and_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_CONTEXT", raising=False)
    CliRunner().invoke(app, ["roll"])
    assert isinstance(context.deployment(), LocalDeployment)
    result = CliRunner().invoke(app, ["--context", "swarm", "status"])
    assert isinstance(result.exception, BadInput)
    assert "local or compose, not 'swarm'" in str(result.exception)


def test_the_variable_mesh_context_chooses_as_well(
    compose: ComposeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_CONTEXT", "compose")
    assert CliRunner().invoke(app, ["fleet", "--json"]).exit_code == 0
    assert isinstance(context.deployment(), ComposeDeployment)


def test_verbs_find_the_published_port(compose: ComposeCommand) -> None:
    fleet = compose.json("fleet")
    assert len(fleet["replicas"]) == 2
    assert compose.docker.commands == ["compose port envoy 8000"]


def test_mesh_address_goes_before_the_context(
    compose: ComposeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_ADDRESS", compose.address)
    compose.json("fleet")
    assert compose.docker.commands == []


@pytest.mark.parametrize("answer", ["", ":0\n", "invalid IP:0\n"])
def test_without_containers_a_verb_says_how_to_start_them(
    compose: ComposeCommand, answer: str
) -> None:
    compose.docker.ports["envoy"] = answer
    result = compose("models")
    assert isinstance(result.exception, NotUp)
    assert "run `mesh --context compose up`" in str(result.exception)


def test_a_verb_quotes_the_last_line_of_dockers_error(compose: ComposeCommand) -> None:
    compose.docker.failure = {"compose port": "first line\nCannot connect to the Docker daemon"}
    result = compose("models")
    assert isinstance(result.exception, NotUp)
    assert "`docker compose port` failed: Cannot connect to the Docker daemon" in str(
        result.exception
    )


def test_a_local_mesh_has_nothing_to_roll() -> None:
    for arguments in (["roll"], ["roll", "--build"]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, CliError)
        assert "mesh --context compose roll" in str(result.exception)
