"""`python -m control_plane.render`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_plane.render import app
from tests.unit.control_plane.envoy_check import check_envoy_accepts

SERVICES = ["--training=t:1", "--trigger=d:1", "--control-plane=c:1"]


def test_render_writes_a_file_that_envoy_accepts(tmp_path: Path) -> None:
    out = tmp_path / "envoy.pb"
    replicas = ["--replica=127.0.0.1:1", "--replica=127.0.0.1:2"]
    result = CliRunner().invoke(
        app, ["static", *replicas, *SERVICES, "--port=18000", f"--out={out}"]
    )
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["envoy.pb"]
    check_envoy_accepts(out)


def test_render_writes_a_bootstrap_that_envoy_accepts(tmp_path: Path) -> None:
    out = tmp_path / "envoy.pb"
    arguments = ["dynamic", "--control-plane=control-plane:1", f"--out={out}"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    check_envoy_accepts(out)


@pytest.mark.parametrize("wrong", [["--replica=nowhere"], ["--replica=a:1", "--host=localhost"]])
def test_render_names_what_is_wrong(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["static", *wrong, *SERVICES, f"--out={tmp_path / 'envoy.pb'}"]
    )
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())
