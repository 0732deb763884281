"""Passwords and keys of a local mesh: made once, readable by the owner only."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

from mesh_cli.local.home import MeshHome, write_private
from mesh_cli.tokens.own_tokens import AIRFLOW_FILE, OwnTokens
from service_kit.database_roles.names import LOGIN_ROLES
from service_kit.signing.keys import new_private_pem, with_public_key

SUPERUSER = "mesh"
"""Name of the database's superuser. Only `mesh up` uses it, to set up the other roles."""

# Each signing key with the file of the public keys that are trusted. Whoever has the first one can
# make versions that replicas accept; whoever has the second one can say which version is served.
SIGNING_KEYS = {
    "model-signing-key.pem": "model-signing-keys.pem",
    "control-plane-signing-key.pem": "control-plane-signing-keys.pem",
}
AIRFLOW_USER = "admin"


def new_password() -> str:
    """A password of 32 characters."""
    return secrets.token_urlsafe(24)


def new_jwt_secret() -> str:
    """A key that signs Airflow's tokens."""
    return secrets.token_urlsafe(64)


def new_fernet_key() -> str:
    """A key that encrypts Airflow's connections: 32 bytes, URL-safe base64 with its padding."""
    return secrets.token_urlsafe(32) + "="


def trusted_keys(folder: Path, private: str) -> str:
    """The trusted public keys that belong to a signing key, which itself is always one of them.

    Keys that are there stay, since versions are signed with them. Raises OSError.
    """
    path = folder / SIGNING_KEYS[private]
    return with_public_key(folder / private, path.read_text() if path.exists() else "")


class LocalSecrets:
    """Files in the folder `secrets` of MESH_HOME, made on first use."""

    def __init__(self, home: MeshHome) -> None:
        self._folder = home.secrets
        self.airflow_passwords_file = self._folder / "airflow_passwords.json"
        self.airflow_password_file = self._folder / "airflow_password"
        self.airflow_token_file = self._folder / AIRFLOW_FILE
        self.tokens = OwnTokens(self._folder)

    def superuser_password(self) -> str:
        """Password of the database's superuser."""
        return self._once("postgres_password", new_password)

    def database_password(self, role: str) -> str:
        """Password of a role with which a part or the operator logs in to the database."""
        return self._once(f"{role}.password", new_password)

    def database_passwords(self) -> dict[str, str]:
        """Passwords of all these roles."""
        return {role: self.database_password(role) for role in LOGIN_ROLES}

    def pgpass_file(self, role: str) -> Path:
        """The file from which libpq takes the password of a role."""
        return self._folder / f"{role}.pgpass"

    def airflow_password(self) -> str:
        """Password of the Airflow user; also writes the file from which Airflow reads it."""
        password = self._once("airflow_password", new_password)
        write_private(self.airflow_passwords_file, json.dumps({AIRFLOW_USER: password}))
        return password

    def airflow_jwt_secret(self) -> str:
        """Key that signs Airflow's tokens."""
        return self._once("airflow_jwt_secret", new_jwt_secret)

    def airflow_fernet_key(self) -> str:
        """Key that encrypts Airflow's connections."""
        return self._once("airflow_fernet_key", new_fernet_key)

    def signing_key(self, private: str) -> Path:
        """File of a signing key, one of SIGNING_KEYS."""
        self._once(private, new_private_pem)
        return self._folder / private

    def trusted_keys(self, private: str) -> Path:
        """File of the public keys that are trusted besides and after a signing key."""
        self.signing_key(private)
        path, text = self._folder / SIGNING_KEYS[private], trusted_keys(self._folder, private)
        if not path.exists() or path.read_text() != text:
            write_private(path, text)
        return path

    def write_pgpass(self, port: int) -> None:
        """Write libpq's password files, so that no URL or environment holds a password."""
        for role, password in self.database_passwords().items():
            write_private(self.pgpass_file(role), f"127.0.0.1:{port}:*:{role}:{password}\n")
        # Earlier releases kept the superuser's password in this file.
        (self._folder / "pgpass").unlink(missing_ok=True)

    def _once(self, name: str, make: Callable[[], str]) -> str:
        path = self._folder / name
        if not path.exists():
            write_private(path, make())
        return path.read_text()
