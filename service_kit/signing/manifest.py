"""The signed manifest of a version, `model.sig` among its files, in OpenSSF's model-signing format.

It is a Sigstore bundle whose envelope holds an in-toto statement: the SHA-256 of every file. Under
`mesh` the statement also says what the version is: its model, its source, its run, the digest of
the rows and the decision. The key is Ed25519, held by the training service.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from service_kit.signing.envelope import opened, sealed
from service_kit.signing.keys import SignatureRefused, SigningKey, TrustedKeys

MANIFEST_FILE = "model.sig"
MAX_MANIFEST_BYTES = 1 << 20

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Manifest:
    """What is signed about a version."""

    model: str
    source: str
    """Where the registry says that the files lie: a copy of them elsewhere is another version."""

    run_id: str
    files: Mapping[str, str]
    """SHA-256 of every file, hexadecimal, by its path within the version."""

    about: Mapping[str, Any] = field(default_factory=dict)
    """Batch, job, digest of the rows, decision: for people and audits."""

    def signed(self, key: SigningKey) -> bytes:
        """Return the content of the file `model.sig`."""
        envelope = sealed(_PAYLOAD_TYPE, json.dumps(self._statement()).encode(), key)
        bundle = {
            "mediaType": _BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.key_id}, "tlogEntries": []},
            "dsseEnvelope": envelope,
        }
        return json.dumps(bundle).encode()

    def with_file(self, path: str, content: bytes) -> "Manifest":
        """Return the manifest after one file was replaced."""
        return replace(self, files={**self.files, path: hashlib.sha256(content).hexdigest()})

    def _statement(self) -> dict[str, Any]:
        files = sorted(self.files.items())
        whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files))
        identity = {"model": self.model, "source": self.source, "run_id": self.run_id}
        return {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": self.model, "digest": {"sha256": whole.hexdigest()}}],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {
                "resources": [
                    {"name": path, "algorithm": "sha256", "digest": digest}
                    for path, digest in files
                ],
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [MANIFEST_FILE],
                },
                "mesh": {**self.about, **identity},
            },
        }


def read_manifest(content: bytes, keys: TrustedKeys) -> Manifest:
    """Return the manifest in the file `model.sig`. Raises SignatureRefused."""
    try:
        bundle = json.loads(content)
        statement = opened(_PAYLOAD_TYPE, bundle["dsseEnvelope"], keys)
        predicate = statement["predicate"]
        if statement["predicateType"] != _PREDICATE_TYPE:
            raise SignatureRefused("it is signed, but it is no manifest of a model")
        about = dict(predicate["mesh"])
        model, source, run_id = (str(about.pop(name)) for name in ("model", "source", "run_id"))
        return Manifest(
            model,
            source,
            run_id,
            {str(file["name"]): str(file["digest"]) for file in predicate["resources"]},
            about,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise SignatureRefused(f"{MANIFEST_FILE} is malformed: {error!r}") from error


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder but the manifest. Raises SignatureRefused for a
    link or another thing that is no plain file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise SignatureRefused(f"{name[:200]!r} is no plain file")
        if path.is_file() and name != MANIFEST_FILE:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
