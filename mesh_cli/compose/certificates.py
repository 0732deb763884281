"""The certificates of a mesh in containers: files beside its secrets, and settings in .env."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.certificates.door import DoorCertificates, door_certificates, names_of
from mesh_cli.compose.compose_secrets import ChangeOwner, Outcome, User
from mesh_cli.compose.env_file import EnvFile
from mesh_cli.errors import CliError
from service_kit.certificates.certificate_files import NAMING_FILE

TLS = "MESH_TLS"
NAMES, CERTIFICATE, KEY, BIND = "MESH_TLS_NAMES", "MESH_CERTIFICATE", "MESH_KEY", "MESH_BIND"
FOLDER = "tls"
# Where the containers find what Envoy serves, and by which name they call Envoy.
SEEN_AT = Path("/run/mesh/tls")
ENVOY = "envoy"
# Compose takes any text that is not empty for yes, so a word that means no must not go unnoticed.
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True)
class TlsSettings:
    """What .env says about TLS; variables of the environment come first, as Compose has it."""

    project: Path
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def on(self) -> bool:
        """Whether clients come with TLS. Raises CliError for a value that Compose would misread."""
        value = self._get(TLS)
        if value.lower() in _NO:
            raise CliError(f"{TLS} is {value!r}: set it to 1, or leave it empty for no TLS")
        return bool(value)

    def choose(self, choice: TlsChoice) -> None:
        """Write a choice into .env. Raises CliError."""
        said = {
            TLS: None if choice.on is None else "1" if choice.on else "",
            CERTIFICATE: None if choice.certificate is None else str(choice.certificate),
            KEY: None if choice.key is None else str(choice.key),
        }
        env_file = EnvFile(self.project / ".env")
        for name, value in said.items():
            if value is not None and env_file.get(name) != value:
                env_file.set(name, value)

    def certificates(self, secrets: Path) -> DoorCertificates:
        """The certificates, in a folder of that of the secrets. Raises CliError."""
        names = (ENVOY, *names_of(self._get(BIND) or "127.0.0.1", self._get(NAMES)))
        certificate, key = self._path(CERTIFICATE), self._path(KEY)
        return door_certificates(secrets / FOLDER, names, certificate, key, SEEN_AT)

    def _get(self, name: str) -> str:
        given = self.environment.get(name)
        return (EnvFile(self.project / ".env").get(name) if given is None else given).strip()

    def _path(self, name: str) -> Path | None:
        value = self._get(name)
        return self.project / value if value else None


def make_certificates(
    settings: TlsSettings, secrets: Path, owner: User | None, change_owner: ChangeOwner
) -> dict[str, Outcome]:
    """Make or renew the files, for the user of the containers.

    Returns what became of each one, by its path in the folder of the secrets. Raises CliError.
    """
    found = settings.certificates(secrets)
    files = [found.own.ca, found.own.folder / NAMING_FILE]
    if found.given is not None:
        files.append(found.given.folder / NAMING_FILE)
    before = {file for file in files if file.exists()}
    own, given = found.make()
    renewed = dict(zip(files, (found.own.ca not in before, own, given), strict=False))
    try:
        for file in files:
            file.chmod(0o600)
        if owner is not None:
            _hand_over(secrets / FOLDER, owner, change_owner)
            for file in files[1:]:
                _show_again(file, owner, change_owner)
    except OSError as error:
        raise CliError(f"{error.filename} cannot be given to {owner} ({error.strerror})") from error
    return {
        str(file.relative_to(secrets)): ("replaced" if file in before else "made")
        if renewed[file]
        else "kept"
        for file in files
    }


def _hand_over(folder: Path, owner: User, change_owner: ChangeOwner) -> None:
    """Give a folder and what is in it to a user."""
    for path in (folder, *folder.rglob("*")):
        change_owner(path, owner.uid, owner.gid)


def _show_again(file: Path, owner: User, change_owner: ChangeOwner) -> None:
    """Rename a copy over the file: Envoy, which could not read new files before they were handed
    over, looks again when something is renamed."""
    copy = file.with_name(f".{file.name}.again")
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o600)
    change_owner(copy, owner.uid, owner.gid)
    copy.replace(file)
