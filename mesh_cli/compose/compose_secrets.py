"""Passwords and keys of a mesh in containers: made once, readable only by its containers' user."""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mesh_cli.errors import CliError
from mesh_cli.local.home import write_private
from mesh_cli.local.local_secrets import (
    AIRFLOW_USER,
    SIGNING_KEYS,
    new_fernet_key,
    new_jwt_secret,
    trusted_keys,
)
from mesh_cli.tokens.own_tokens import GRANTS, OPERATOR_FILE, OwnTokens
from mesh_cli.tokens.signing_keys import PRIVATE_FILE
from service_kit.database_roles.names import LOGIN_ROLES
from service_kit.signing.keys import new_private_pem

# Files that an operator fills, by these variables or by hand; an empty one is not used.
GIVEN = {"huggingface_token": "HUGGINGFACE_TOKEN", "slack_url": "SLACK_URL"}
# Files that no container gets: only the command reads them.
OF_THE_COMMAND = (PRIVATE_FILE, OPERATOR_FILE)
# The user that Airflow's image itself has. The image needs its users in root's group.
CONTAINER_UID = 50_000
CONTAINER_GID = 0

Outcome = Literal["made", "kept", "replaced"]
# Changes the owner of a path: user id, group id. Raises OSError.
ChangeOwner = Callable[[Path, int, int], None]


@dataclass(frozen=True)
class User:
    """The user as whom containers run."""

    uid: int
    gid: int


def container_user(uid: int) -> User:
    """The user as whom the containers of an operator run: the operator; CONTAINER_UID for root."""
    return User(uid or CONTAINER_UID, CONTAINER_GID)


@dataclass
class ComposeSecrets:
    """The files that compose.yaml mounts as secrets."""

    folder: Path
    owner: User | None = None
    """The user who gets the files; None: the user who makes them."""
    change_owner: ChangeOwner = field(default=os.chown)

    def airflow_password(self) -> str:
        """Password of Airflow's user. Raises CliError."""
        path = self.folder / "airflow_passwords.json"
        try:
            password: str = json.loads(path.read_text())[AIRFLOW_USER]
        except OSError as error:
            raise CliError(f"{path} cannot be read ({error.strerror}): run `mesh init`") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CliError(
                f"{path} names no password of {AIRFLOW_USER}: remove it and run `mesh init`"
            ) from error
        return password

    def make(self, environment: Mapping[str, str]) -> dict[str, Outcome]:
        """Make the missing files, and replace those for which the environment has another value.

        Returns what became of each file. Raises CliError when a file cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            outcomes: dict[str, Outcome] = {}
            for name, make in self._made():
                outcomes[name] = self._once(name, make)
            for private, public in SIGNING_KEYS.items():
                outcomes[private] = self._once(private, new_private_pem)
                outcomes[public] = self._given(public, trusted_keys(self.folder, private))
            for name, variable in GIVEN.items():
                outcomes[name] = self._given(name, environment.get(variable, "").strip())
            outcomes |= self._tokens()
            for name in outcomes:
                self._protect(self.folder / name)
        except OSError as error:
            raise CliError(
                f"{error.filename or self.folder} cannot be written ({error.strerror}): "
                f"run `mesh init` as the user who owns {self.folder}"
            ) from error
        return outcomes

    def _made(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "postgres_password", secrets.token_urlsafe
        for role in LOGIN_ROLES:
            yield f"{role}.pgpass", partial(_pgpass, role)
        yield "airflow_passwords.json", lambda: json.dumps({AIRFLOW_USER: secrets.token_urlsafe()})
        yield "airflow_jwt_secret", new_jwt_secret
        yield "airflow_fernet_key", new_fernet_key

    def _tokens(self) -> dict[str, Outcome]:
        """Make the keys and tokens that are missing, and replace those whose time is half over."""
        tokens = OwnTokens(self.folder)
        keys = tokens.keys
        names = (keys.private_file.name, keys.public_file.name, *GRANTS)
        before = {name for name in names if (self.folder / name).exists()}
        made = tokens.make()
        outcomes: dict[str, Outcome] = dict.fromkeys(names, "kept")
        for name in made:
            outcomes[name] = "replaced" if name in before else "made"
        return outcomes

    def _once(self, name: str, make: Callable[[], str]) -> Outcome:
        path = self.folder / name
        if path.exists():
            return "kept"
        write_private(path, make())
        return "made"

    def _given(self, name: str, value: str) -> Outcome:
        outcome = self._once(name, lambda: value)
        path = self.folder / name
        if outcome == "made" or not value or path.read_text().strip() == value.strip():
            return outcome
        write_private(path, value)
        return "replaced"

    def _protect(self, path: Path) -> None:
        """Set mode and owner, also of a file that an editor has changed."""
        path.chmod(0o600)
        if self.owner is not None and path.name not in OF_THE_COMMAND:
            self.change_owner(path, self.owner.uid, self.owner.gid)


def _pgpass(role: str) -> str:
    """A line of libpq's password file, for every database of the container `postgres`."""
    return f"postgres:5432:*:{role}:{secrets.token_urlsafe()}\n"
