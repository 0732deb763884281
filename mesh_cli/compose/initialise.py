"""Makes what `docker compose up` needs: the secrets, and the user of the containers in .env."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.compose.certificates import TlsSettings, make_certificates
from mesh_cli.compose.compose_secrets import (
    ChangeOwner,
    ComposeSecrets,
    Outcome,
    User,
    container_user,
)
from mesh_cli.compose.env_file import EnvFile
from mesh_cli.compose.identities import make_identities
from mesh_cli.errors import CliError

UID_VARIABLE, GID_VARIABLE = "MESH_UID", "MESH_GID"
SECRETS_VARIABLE = "MESH_SECRETS"


@dataclass(frozen=True)
class Initialised:
    """What `initialise` made and what it kept."""

    folder: Path
    """Folder of the secrets."""
    secrets: dict[str, Outcome]
    """Each file in that folder, and whether it was made, kept or replaced."""
    env: dict[str, str]
    """Variables that were added to .env."""
    certificates: dict[str, Outcome]
    """Each file of a certificate for Envoy, by its path in that folder, and what became of it."""


def secrets_folder(project: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Folder from which compose.yaml takes the secrets. Raises CliError."""
    folder = environment.get(SECRETS_VARIABLE) or EnvFile(project / ".env").get(SECRETS_VARIABLE)
    return project / (folder or "secrets")


def initialise(
    project: Path,
    environment: Mapping[str, str] = os.environ,
    uid: int | None = None,
    change_owner: ChangeOwner = os.chown,
) -> Initialised:
    """Make what is missing in the project's folder; a second call changes nothing.

    uid: the operator's user id. Raises CliError when a file cannot be written.
    """
    operator = os.geteuid() if uid is None else uid
    user = container_user(operator)
    env_file = EnvFile(project / ".env")
    added = env_file.add_missing({UID_VARIABLE: str(user.uid), GID_VARIABLE: str(user.gid)})
    # No container runs as root, so root gives the secrets to the user of the containers.
    owner = _env_file_user(env_file) if operator == 0 else None
    folder = secrets_folder(project, environment)
    files = ComposeSecrets(folder, owner, change_owner).make(environment)

    def hand_over(path: Path) -> None:
        if owner is not None:
            change_owner(path, owner.uid, owner.gid)

    make_identities(folder, hand_over)
    tls = TlsSettings(project, environment)
    certificates = make_certificates(tls, folder, owner, change_owner)
    return Initialised(folder, files, added, certificates)


def _env_file_user(env_file: EnvFile) -> User:
    uid, gid = env_file.get(UID_VARIABLE), env_file.get(GID_VARIABLE)
    try:
        return User(int(uid), int(gid))
    except ValueError:
        raise CliError(
            f"{UID_VARIABLE}={uid} and {GID_VARIABLE}={gid} in .env must be numbers"
        ) from None
