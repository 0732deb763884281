"""Settings of a local mesh, and its folder."""

from pathlib import Path

import pytest

from mesh_cli.errors import CliError, NotUp
from mesh_cli.local.home import MeshHome, MeshSettings, compose_folder, project_folder


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


def test_verbs_without_a_mesh_say_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotUp, match="mesh up"):
        MeshHome(tmp_path).record()


def test_a_home_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = MeshHome(tmp_path / ("x" * 120))
    assert len(str(deep.supervisord_socket)) < 107
    assert deep.supervisord_socket != MeshHome(tmp_path / ("y" * 120)).supervisord_socket


def test_an_unwritable_home_names_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="MESH_HOME"):
        MeshHome(tmp_path / "file" / "home").make_folders()
