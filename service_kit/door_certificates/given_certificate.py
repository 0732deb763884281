"""A certificate that somebody else renews, in two PEM files whose copy Envoy gets."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service_kit.certificates.certificate_files import NAMING_FILE, write_pair
from service_kit.door_certificates.current_pair import Pair, changing, current_pair

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class GivenCertificate:
    """Copies a certificate and its key into a folder that Envoy watches, as often as they change.

    The copy has the permissions that Envoy needs, and is never half of a change: a certificate is
    taken only together with the key that belongs to it.
    """

    certificate: Path
    key: Path
    folder: Path
    seen_at: Path | None = None
    """Where Envoy finds the folder; None: where it is."""
    clock: Callable[[], float] = time.time

    @property
    def naming_file(self) -> Path:
        """The file that Envoy reads, at the path where Envoy finds it."""
        return (self.seen_at or self.folder.absolute()) / NAMING_FILE

    def make(self) -> bool:
        """Copy the two files when they differ from the copy, and return whether they did.

        Raises ValueError when they cannot be used, and OSError when they cannot be read; the
        earlier copy then stays in use.
        """
        pair = Pair(_read(self.certificate), _read(self.key))
        with changing(self.folder):
            if pair == current_pair(self.folder):
                return False
            self._check(pair)
            write_pair(self.folder, pair.chain, pair.key, self.seen_at)
        return True

    def _check(self, pair: Pair) -> None:
        try:
            certificate = x509.load_pem_x509_certificates(pair.chain)[0]
        except ValueError as error:
            raise ValueError(f"{self.certificate} holds no certificate as PEM") from error
        try:
            key = serialization.load_pem_private_key(pair.key, None)
        except TypeError as error:
            raise ValueError(f"{self.key} has a password; give the key without one") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{self.key} holds no private key as PEM") from error
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
            raise ValueError(f"{self.key} is not the key of the first one in {self.certificate}")
        if not pair.names:
            raise ValueError(
                f"{self.certificate} names no host (subjectAltName), so no client would take it"
            )
        if certificate.not_valid_after_utc.timestamp() < self.clock():
            raise ValueError(
                f"{self.certificate} ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES:,} bytes: it is no certificate or key")
    return content
