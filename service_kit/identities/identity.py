"""The identity of this part: three PEM files, which may be replaced at any time."""

import logging
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from prometheus_client import Gauge

from service_kit.files.watching import Stamp, stamp
from service_kit.identities.names import part_of, server_name, spiffe_id

log = logging.getLogger(__name__)

CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE = "cert.pem", "key.pem", "ca.pem"
EXPIRES = Gauge("mesh_identity_expires", "When this part's certificate ends, Unix time, seconds.")
_FILES = (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE)
_State = tuple[Stamp, ...]


class BadIdentity(ValueError):
    """The files of an identity cannot be used; the text says which one and why."""


@dataclass(frozen=True)
class Pems:
    """What the three files hold, each as PEM."""

    certificate: bytes
    """The part's certificate, and those between it and an authority."""

    key: bytes
    """Private key of the certificate."""

    authorities: bytes
    """Certificates of the authorities whose parts are trusted."""

    part: str


class Identity:
    """Reads the files again whenever they have changed. May be used by several threads."""

    def __init__(self, folder: Path) -> None:
        """Read CERTIFICATE_FILE, KEY_FILE and AUTHORITIES_FILE of a folder. Raises BadIdentity."""
        self.folder = folder
        self._lock = threading.Lock()
        self._state = self._look()
        self._pems = self._read()
        log.info("this part has an identity", extra={"identity": spiffe_id(self._pems.part)})

    @classmethod
    def of(cls, folder: Path | None) -> "Identity | None":
        """Return the identity of a folder, the same one for every caller; None without a folder.

        Raises BadIdentity.
        """
        return _of(folder) if folder else None

    @property
    def part(self) -> str:
        """Name of the part that the certificate names."""
        return self._pems.part

    def current(self) -> Pems:
        """Return what the files hold; the same object as before while they have not changed.

        Files that cannot be used, as when only one of them has been replaced yet, change nothing.
        """
        with self._lock:
            state = self._look()
            if state != self._state:
                self._state = state
                try:
                    self._pems = self._read()
                    log.info("this part has a new certificate", extra={"folder": str(self.folder)})
                except BadIdentity as error:
                    log.warning(
                        "a new certificate cannot be used; this part goes on with the one it has",
                        extra={"why": str(error)},
                    )
            return self._pems

    def _look(self) -> _State:
        try:
            return tuple(stamp(self.folder / name) for name in _FILES)
        except OSError:
            return ()  # _read says why

    def _read(self) -> Pems:
        try:
            certificate, key, authorities = ((self.folder / name).read_bytes() for name in _FILES)
        except OSError as error:
            raise BadIdentity(f"{error.filename} cannot be read: {error.strerror}") from error
        try:
            own = x509.load_pem_x509_certificates(certificate)[0]
            matches = serialization.load_pem_private_key(key, None).public_key() == own.public_key()
            x509.load_pem_x509_certificates(authorities)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadIdentity(f"a file in {self.folder} is no PEM as it should be: {error}") from (
                error
            )
        if not matches:
            raise BadIdentity(f"{KEY_FILE} in {self.folder} is not the key of {CERTIFICATE_FILE}")
        EXPIRES.set(own.not_valid_after_utc.timestamp())
        return Pems(certificate, key, authorities, _part(own, self.folder / CERTIFICATE_FILE))


@cache
def _of(folder: Path) -> Identity:
    return Identity(folder)


def _part(certificate: x509.Certificate, file: Path) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    part = part_of(names.get_values_for_type(x509.UniformResourceIdentifier))
    if not part:
        raise BadIdentity(f"{file} needs exactly one URI, such as {spiffe_id('training')}")
    if server_name(part) not in names.get_values_for_type(x509.DNSName):
        raise BadIdentity(
            f"{file} names {spiffe_id(part)}, but not {server_name(part)} as DNS name"
        )
    return part
