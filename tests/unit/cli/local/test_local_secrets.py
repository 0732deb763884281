"""Passwords and keys of a local mesh."""

import json
import stat
from pathlib import Path

from mesh_cli.local.home import MeshHome
from mesh_cli.local.local_secrets import AIRFLOW_USER, SIGNING_KEYS, LocalSecrets
from service_kit.signing.keys import TrustedKeys


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


def test_signing_keys_are_made_once_and_a_replaced_one_stays_trusted(tmp_path: Path) -> None:
    home = MeshHome(tmp_path)
    home.make_folders()
    secrets = LocalSecrets(home)
    for private in SIGNING_KEYS:
        first = secrets.signing_key(private).read_text()
        trusted = secrets.trusted_keys(private)
        assert LocalSecrets(home).signing_key(private).read_text() == first
        assert (len(TrustedKeys(trusted).keys()), "PRIVATE" in trusted.read_text()) == (1, False)
        secrets.signing_key(private).unlink()
        assert len(TrustedKeys(secrets.trusted_keys(private)).keys()) == 2
        assert secrets.signing_key(private).stat().st_mode & 0o777 == 0o600
