"""TLS of a local mesh: what `mesh up` makes of the options, the variables and earlier starts."""

from pathlib import Path
from typing import Any

import pytest

from mesh_cli.certificates.choice import TlsChoice, chosen_tls
from mesh_cli.errors import BadInput, CliError
from mesh_cli.local import airflow
from mesh_cli.local.certificates import certificates_of
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import Parts
from mesh_cli.local.ports import internal_names
from service_kit.door_certificates.current_pair import current_pair

PORTS = {name: 1024 + number for number, name in enumerate(internal_names(2))}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MESH_TLS", "MESH_TLS_NAMES", "MESH_CERTIFICATE", "MESH_KEY"):
        monkeypatch.delenv(name, raising=False)


def started(home: Path, choice: TlsChoice, settings: MeshSettings | None = None) -> LocalMesh:
    """A mesh with the record that its start would have left."""
    mesh = LocalMesh(settings or MeshSettings(home=home))
    mesh.home.make_folders()
    mesh.choose_tls(choice)
    mesh.home.write_record(
        {
            "run_id": "1",
            "settings": mesh.next_settings.model_dump(mode="json"),
            "asked_replicas": 2,
            "ports": PORTS,
        }
    )
    return mesh


def test_without_a_word_clients_come_without_tls(tmp_path: Path) -> None:
    mesh = started(tmp_path, TlsChoice())
    assert (mesh.address, mesh.ca) == ("127.0.0.1:8000", None)
    assert "certificates" not in {part.name for part in mesh.parts}
    assert LocalDeployment(mesh).urls()["mesh"] == "http://127.0.0.1:8000"
    assert not (tmp_path / "secrets" / "tls").exists()


def test_with_tls_every_part_follows(tmp_path: Path) -> None:
    mesh = started(tmp_path, TlsChoice(True))
    assert mesh.address == "https://127.0.0.1:8000"
    assert LocalDeployment(mesh).urls()["mesh"] == mesh.address
    assert mesh.ca == tmp_path / "secrets" / "tls" / "authority" / "ca.pem"
    parts = {part.name: part for part in mesh.parts}
    assert parts["envoy"].url == mesh.address
    assert "service_kit.door_certificates" in parts["certificates"].program.command
    variables = parts["control-plane"].program.environment
    assert variables["CONTROL_ENVOY_CERTIFICATE"] == str(
        tmp_path / "secrets" / "tls" / "served" / "own" / "certificate.json"
    )
    for name in airflow.PARTS:
        of_airflow = parts[f"airflow-{name}"].program.environment
        assert of_airflow["MESH_ADDRESS"] == mesh.address
        assert of_airflow["MESH_CA"] == str(mesh.ca)


def test_every_step_of_a_start_is_counted(tmp_path: Path) -> None:
    for on in (True, False):
        mesh = started(tmp_path / str(on), TlsChoice(on))
        # One report for each part, and one for Airflow's database.
        assert mesh.steps == len(mesh.parts) + 1


def test_what_was_said_holds_until_something_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path, TlsChoice(True, tmp_path / "c.pem", tmp_path / "k.pem"))
    again = started(tmp_path, TlsChoice()).settings
    assert (again.tls, again.certificate, again.key) == (
        True,
        tmp_path / "c.pem",
        tmp_path / "k.pem",
    )
    assert not started(tmp_path, TlsChoice(False)).settings.tls
    assert not started(tmp_path, TlsChoice()).settings.tls
    monkeypatch.setenv("MESH_TLS", "1")
    assert started(tmp_path, TlsChoice()).settings.tls
    monkeypatch.setenv("MESH_TLS", "0")
    assert not started(tmp_path, TlsChoice()).settings.tls
    assert started(tmp_path, TlsChoice(True)).settings.tls, "an option goes before a variable"


def test_a_record_of_an_earlier_release_has_no_tls(tmp_path: Path) -> None:
    mesh = started(tmp_path, TlsChoice(True))
    record: dict[str, Any] = mesh.home.record()
    for name in ("tls", "tls_names", "certificate", "key"):
        del record["settings"][name]
    mesh.home.write_record(record)
    mesh.reread_record()
    assert (mesh.address, mesh.ca) == ("127.0.0.1:8000", None)


def test_a_published_mesh_has_its_names_in_the_certificate(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    settings = MeshSettings(home=tmp_path, host="10.0.0.7", tls_names="mesh.example, ,10.0.0.8")
    certificates_of(home, settings).make()
    pair = current_pair(home.tls / "served" / "own")
    assert pair is not None
    assert {"127.0.0.1", "localhost", "10.0.0.7", "mesh.example", "10.0.0.8"} <= pair.names
    everywhere = MeshSettings(home=tmp_path, host="0.0.0.0")
    assert "0.0.0.0" not in certificates_of(home, everywhere).own.names


def test_a_name_that_no_certificate_can_have_is_an_error_that_says_so(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    with pytest.raises(CliError, match="the certificate cannot be used"):
        certificates_of(home, MeshSettings(home=tmp_path, tls_names="mäsh")).make()


def test_a_given_certificate_is_served_beside_the_own_one_and_watched(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    settings = MeshSettings(home=tmp_path, tls=True, certificate=Path("/c"), key=Path("/k"))
    parts = {part.name: part for part in Parts(home, settings, LocalSecrets(home), PORTS).all()}
    served = home.tls / "served"
    files = parts["control-plane"].program.environment["CONTROL_ENVOY_CERTIFICATE"]
    assert files == f"{served / 'own' / 'certificate.json'},{served / 'given' / 'certificate.json'}"
    command = parts["certificates"].program.command
    assert command[command.index("--given-certificate") + 1] == "/c"
    with pytest.raises(CliError, match="/c cannot be read"):
        certificates_of(home, settings).make()


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give both"):
        chosen_tls(None, tmp_path / "c.pem", None)
    with pytest.raises(BadInput, match="goes without --no-tls"):
        chosen_tls(False, tmp_path / "c.pem", tmp_path / "k.pem")
    assert chosen_tls(None, Path("c.pem"), Path("k.pem")) == TlsChoice(
        True, Path("c.pem").absolute(), Path("k.pem").absolute()
    )
    with pytest.raises(CliError, match="MESH_CERTIFICATE and MESH_KEY go together"):
        certificates_of(MeshHome(tmp_path), MeshSettings(home=tmp_path, key=Path("/k")))
