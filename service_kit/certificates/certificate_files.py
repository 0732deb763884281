"""The file that names the certificate and its key for Envoy, and how a new pair is put there."""

import json
import os
import tempfile
from pathlib import Path

CERTIFICATE_NAME = "mesh-certificate"
NAMING_FILE = "certificate.json"
CHAIN_FILE, KEY_FILE = "certificate.pem", "key.pem"
_MESSAGE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def write_pair(folder: Path, chain_pem: bytes, key_pem: bytes, seen_at: Path | None = None) -> Path:
    """Put a certificate chain and its private key, both PEM, into a folder; return the naming file.

    seen_at: where Envoy finds this folder; None: where it is.
    The pair lies in a folder of its own, and the file that names it is replaced in one step, so
    that Envoy never reads a certificate with the key of another one. Earlier pairs, but for the
    last one, are deleted.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = sorted((path for path in folder.glob("pair-*")), key=lambda path: path.stat().st_mtime)
    pair = Path(tempfile.mkdtemp(prefix="pair-", dir=folder))
    _write(pair / CHAIN_FILE, chain_pem)
    _write(pair / KEY_FILE, key_pem)
    seen = (seen_at or folder) / pair.name
    certificate = {
        "certificate_chain": {"filename": str(seen / CHAIN_FILE)},
        "private_key": {"filename": str(seen / KEY_FILE)},
    }
    secret = {"@type": _MESSAGE, "name": CERTIFICATE_NAME, "tls_certificate": certificate}
    new = folder / f".{NAMING_FILE}.new"
    new.unlink(missing_ok=True)
    _write(new, json.dumps({"resources": [secret]}, indent=1).encode())
    new.replace(folder / NAMING_FILE)
    for old in before[:-1]:
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
    return folder / NAMING_FILE


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole on the disk before it is named anywhere."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
