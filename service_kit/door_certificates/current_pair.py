"""The certificate and the key that a folder has now, and the right to change them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from service_kit.certificates.certificate_files import CHAIN_FILE, KEY_FILE, NAMING_FILE
from service_kit.files.writing import locked


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its private key, both PEM."""

    chain: bytes
    key: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The first certificate of the chain. Raises ValueError when it is none."""
        return x509.load_pem_x509_certificate(self.chain)

    @property
    def names(self) -> frozenset[str]:
        """The DNS names and IP addresses for which it is good. Raises ValueError."""
        try:
            found = self.certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            return frozenset()
        addresses = map(str, found.get_values_for_type(x509.IPAddress))
        return frozenset((*found.get_values_for_type(x509.DNSName), *addresses))


def current_pair(folder: Path) -> Pair | None:
    """The pair that the folder's naming file names; None: there is none that can be read."""
    try:
        secret = json.loads((folder / NAMING_FILE).read_bytes())["resources"][0]
        named = Path(secret["tls_certificate"]["certificate_chain"]["filename"])
        # Envoy may see this folder at another place than this process.
        pair = folder / named.parent.name
        return Pair((pair / CHAIN_FILE).read_bytes(), (pair / KEY_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, IndexError, TypeError):
        return None


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Let one process at a time change a folder, which is made when it is missing."""
    _make_private(folder)
    with locked(folder):
        yield


def _make_private(folder: Path) -> None:
    """Make a folder and the missing ones above it, for their owner only."""
    if not folder.parent.exists():
        _make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
