"""Passwords and keys of a local mesh."""

import json
import stat
from pathlib import Path

from mesh_cli.local.home import MeshHome
from mesh_cli.local.local_secrets import AIRFLOW_USER, LocalSecrets


def test_secrets_are_made_once_and_only_for_the_owner(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    secrets = LocalSecrets(home)
    assert secrets.superuser_password() == LocalSecrets(home).superuser_password()
    assert secrets.database_passwords() == LocalSecrets(home).database_passwords()
    assert len({secrets.superuser_password(), *secrets.database_passwords().values()}) == 7
    assert secrets.airflow_password() == secrets.airflow_password_file.read_text()
    passwords = json.loads(secrets.airflow_passwords_file.read_text())
    assert passwords == {AIRFLOW_USER: secrets.airflow_password()}
    for file in home.secrets.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
