"""The file that names the certificate and its key for Envoy, and how a new pair is put there."""

import json
import tempfile
from pathlib import Path

from service_kit.files.writing import write_new

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
    write_new(pair / CHAIN_FILE, chain_pem)
    write_new(pair / KEY_FILE, key_pem)
    seen = (seen_at or folder) / pair.name
    certificate = {
        "certificate_chain": {"filename": str(seen / CHAIN_FILE)},
        "private_key": {"filename": str(seen / KEY_FILE)},
    }
    secret = {"@type": _MESSAGE, "name": CERTIFICATE_NAME, "tls_certificate": certificate}
    new = folder / f".{NAMING_FILE}.new"
    new.unlink(missing_ok=True)
    write_new(new, json.dumps({"resources": [secret]}, indent=1).encode())
    new.replace(folder / NAMING_FILE)
    for old in before[:-1]:
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
    return folder / NAMING_FILE
