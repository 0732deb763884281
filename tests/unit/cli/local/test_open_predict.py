"""Whether predictions need a token, derived from where the mesh is published."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from control_plane.settings import ControlPlaneSettings
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import Parts
from mesh_cli.local.ports import internal_names, on_loopback
from tests.whole_mesh.running_mesh import ROOT

OPEN = "CONTROL_PLANE_OPEN_PREDICT"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_is_this_machine_only(host: str) -> None:
    assert on_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil", "mesh"])
def test_every_other_address_is_not(host: str) -> None:
    assert not on_loopback(host)


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "true"), ("0.0.0.0", "false")])
def test_local_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    monkeypatch.delenv(OPEN, raising=False)
    environment = _environment(tmp_path, host)
    assert environment[OPEN] == expected
    assert environment["CONTROL_PLANE_TOKEN_KEYS"].endswith("secrets/token-keys.json")
    monkeypatch.setenv(OPEN, "false")
    assert _environment(tmp_path, host)[OPEN] == "false"


def _environment(folder: Path, host: str) -> dict[str, str]:
    home = MeshHome(folder)
    home.make_folders()
    ports = {name: 1024 + number for number, name in enumerate(internal_names(2))}
    parts = Parts(home, MeshSettings(host=host), LocalSecrets(home), ports)
    return parts._control_plane()


@pytest.mark.parametrize(
    ("bind", "given", "expected"),
    [
        ("127.0.0.1", "", "true"),
        ("::1", "", "true"),
        ("0.0.0.0", "", "false"),
        ("10.0.0.7", "", "false"),
        ("", "", "false"),
        ("127.0.0.1", "false", "false"),
        ("0.0.0.0", "true", "true"),
    ],
)
def test_containers(bind: str, given: str, expected: str) -> None:
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][
        "control-plane"
    ]
    *shell, script = service["command"]
    printing = script.replace("$$", "$").replace(
        "exec python -m control_plane.main", f"echo ${OPEN}"
    )
    result = subprocess.run(
        [*shell, printing],
        env={"PATH": os.environ["PATH"], "MESH_BIND": bind, OPEN: given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == expected


def test_a_control_plane_that_does_not_know_these_settings_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(OPEN, "true")
    monkeypatch.setenv("CONTROL_PLANE_TOKEN_KEYS", str(tmp_path / "token-keys.json"))
    assert ControlPlaneSettings(port=9000).topology().port
