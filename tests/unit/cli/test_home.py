import json
import socket
import stat
from pathlib import Path

import pytest

from mesh_cli.errors import CliError, NotUp
from mesh_cli.local.home import MeshHome, MeshSettings, compose_folder, project_folder
from mesh_cli.local.local_secrets import AIRFLOW_USER, LocalSecrets
from mesh_cli.local.ports import internal_ports, require_free


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    monkeypatch.setenv("MESH_PORT", "18000")
    settings = MeshSettings()
    assert (settings.home, settings.port) == (tmp_path, 18000)


def test_the_folder_of_compose_yaml_is_the_projects_or_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MESH_COMPOSE_FOLDER", raising=False)
    assert compose_folder() == project_folder()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_COMPOSE_FOLDER", "here")
    assert compose_folder() == tmp_path / "here"


def test_secrets_are_made_once_and_only_for_the_owner(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    secrets = LocalSecrets(home)
    assert secrets.database_password() == LocalSecrets(home).database_password()
    assert secrets.airflow_password() == secrets.airflow_password_file.read_text()
    passwords = json.loads(secrets.airflow_passwords_file.read_text())
    assert passwords == {AIRFLOW_USER: secrets.airflow_password()}
    for file in home.secrets.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_verbs_without_a_mesh_say_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotUp, match="mesh up"):
        MeshHome(tmp_path).record()


def test_long_paths_get_a_socket_elsewhere(tmp_path: Path) -> None:
    deep = MeshHome(tmp_path / ("x" * 120))
    assert len(str(deep.supervisord_socket)) < 107
    assert deep.supervisord_socket != MeshHome(tmp_path / ("y" * 120)).supervisord_socket


def test_unwritable_home_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="MESH_HOME"):
        MeshHome(tmp_path / "file" / "home").make_folders()


def test_a_port_in_use_is_named_with_its_variable_and_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CliError) as caught:
            require_free("127.0.0.1", {"Envoy": ("MESH_PORT", port)})
    assert str(port) in str(caught.value)
    assert "MESH_PORT" in str(caught.value)
    assert "process" in str(caught.value)


def test_one_port_for_two_parts_is_refused() -> None:
    with pytest.raises(CliError, match="both"):
        require_free("127.0.0.1", {"Envoy": ("MESH_PORT", 1), "MLflow": ("MESH_MLFLOW_PORT", 1)})


def test_internal_ports_are_distinct_and_kept() -> None:
    first = internal_ports(["a", "b", "c"], {})
    assert len(set(first.values())) == 3
    assert internal_ports(["a", "b", "c"], first) == first


def test_a_kept_port_that_is_taken_is_replaced() -> None:
    kept = internal_ports(["a"], {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", kept["a"]))
        taken.listen()
        assert internal_ports(["a"], kept) != kept
