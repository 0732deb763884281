"""What compose.yaml makes of the settings of TLS, read without Docker."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mesh_cli.compose.certificates import SEEN_AT, TlsSettings
from mesh_cli.compose.initialise import initialise
from tests.whole_mesh.running_mesh import ROOT

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = DOCUMENT["services"]
AUTHORITY, SERVED = "tls/authority", "tls/served"


def shell(script: str, **environment: str) -> str:
    """Output of a script; the shell fills in variables by the rules that Compose has, too."""
    result = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def filled(text: str, **environment: str) -> str:
    return shell(f'echo "{text}"', **environment)


def mounts(service: str) -> dict[str, bool]:
    """Folders of the secrets that a container has, and whether it may only read them."""
    return {
        volume["source"].partition("}/")[2]: volume["read_only"]
        for volume in SERVICES[service].get("volumes", ())
        if isinstance(volume, dict)
    }


@pytest.mark.parametrize(
    ("tls", "given", "files"),
    [
        ("", "", ""),
        ("", "/etc/c.pem", ""),
        ("1", "", "own/certificate.json"),
        ("1", "/etc/c.pem", "own/certificate.json,given/certificate.json"),
    ],
)
def test_envoy_is_told_of_its_certificates(tls: str, given: str, files: str) -> None:
    *_, script = SERVICES["control-plane"]["command"]
    printing = script.replace("$$", "$").replace(
        "exec python -m control_plane.main", 'echo "$CONTROL_ENVOY_CERTIFICATE"'
    )
    printed = shell(printing, MESH_BIND="127.0.0.1", MESH_TLS=tls, MESH_CERTIFICATE=given)
    wanted = [f"{SEEN_AT}/{name}" for name in files.split(",") if name]
    assert printed == ",".join(wanted)


def test_the_files_are_where_mesh_init_puts_them(tmp_path: Path) -> None:
    initialise(tmp_path, {}, 1234)
    assert mounts("envoy") == {SERVED: True, "identities/envoy": True}
    own = TlsSettings(tmp_path, {}).certificates(tmp_path / "secrets").own
    assert own.naming_file == SEEN_AT / "own" / "certificate.json"
    for folder in (AUTHORITY, SERVED):
        assert (tmp_path / "secrets" / folder).is_dir()
    ca = DOCUMENT["secrets"]["mesh_ca"]["file"]
    assert ca.endswith(f"}}/{AUTHORITY}/ca.pem")
    assert own.ca == tmp_path / "secrets" / AUTHORITY / "ca.pem"


def test_only_the_container_that_renews_has_the_key_of_the_authority() -> None:
    assert mounts("certificates") == {SERVED: False, AUTHORITY: True}
    with_it = {name for name in SERVICES if AUTHORITY in mounts(name)}
    assert with_it == {"certificates"}
    assert "ports" not in SERVICES["certificates"]


@pytest.mark.parametrize(("tls", "works"), [("", False), ("1", True)])
def test_certificates_are_renewed_only_with_tls(tls: str, works: bool) -> None:
    *_, script = SERVICES["certificates"]["command"]
    printing = script.replace("$$", "$").replace("exec sleep infinity", "{ echo idle; exit; }")
    printing = printing.replace("exec python", "echo python")
    expected = (
        f"python -m service_kit.door_certificates /run/mesh/authority {SEEN_AT}/own"
        if works
        else "idle"
    )
    assert shell(printing, MESH_TLS=tls) == expected


def test_airflow_calls_the_mesh_in_the_same_way() -> None:
    environment = SERVICES["airflow-scheduler"]["environment"]
    assert filled(environment["MESH_ADDRESS"]) == "envoy:8000"
    assert filled(environment["MESH_CA"]) == ""
    assert filled(environment["MESH_ADDRESS"], MESH_TLS="1") == "https://envoy:8000"
    assert filled(environment["MESH_CA"], MESH_TLS="1") == "/run/secrets/mesh_ca"
    assert "mesh_ca" in SERVICES["airflow-scheduler"]["secrets"]
