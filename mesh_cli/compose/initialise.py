"""What `docker compose up` needs before it: secrets, and who runs the containers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.compose.compose_secrets import (
    ChangeOwner,
    ComposeSecrets,
    Outcome,
    User,
    container_user,
)
from mesh_cli.compose.env_file import EnvFile
from mesh_cli.errors import CliError

UID_VARIABLE, GID_VARIABLE = "MESH_UID", "MESH_GID"
SECRETS_VARIABLE = "MESH_SECRETS"


@dataclass(frozen=True)
class Initialised:
    """What was there and what was made."""

    folder: Path
    """Where the secrets are."""
    secrets: dict[str, Outcome]
    """What became of each file in it."""
    env: dict[str, str]
    """Variables that were added to .env."""


def secrets_folder(project: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where compose.yaml looks for the secrets. Raises CliError."""
    named = environment.get(SECRETS_VARIABLE) or EnvFile(project / ".env").get(SECRETS_VARIABLE)
    return project / (named or "secrets")


def initialise(
    project: Path,
    environment: Mapping[str, str] = os.environ,
    uid: int | None = None,
    change_owner: ChangeOwner = os.chown,
) -> Initialised:
    """Make what is missing in the project's folder; done again, it changes nothing.

    uid: of the operator. Raises CliError when a file cannot be written.
    """
    operator = os.geteuid() if uid is None else uid
    user = container_user(operator)
    env_file = EnvFile(project / ".env")
    added = env_file.add_missing({UID_VARIABLE: str(user.uid), GID_VARIABLE: str(user.gid)})
    # Only root can give files away, and has to: no container runs as root.
    owner = _named(env_file) if operator == 0 else None
    folder = secrets_folder(project, environment)
    files = ComposeSecrets(folder, owner, change_owner).make(environment)
    return Initialised(folder, files, added)


def _named(env_file: EnvFile) -> User:
    found = env_file.get(UID_VARIABLE), env_file.get(GID_VARIABLE)
    try:
        return User(*map(int, found))
    except ValueError:
        raise CliError(
            f"{UID_VARIABLE}={found[0]} and {GID_VARIABLE}={found[1]} in .env: numbers are needed"
        ) from None
