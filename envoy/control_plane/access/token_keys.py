"""Reads the public keys that the mesh's own tokens are checked with."""

import json
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

from jwt import PyJWKSet
from jwt.exceptions import PyJWTError

# More keys than one are there only while they are changed.
MAX_KEYS = 16
MAX_FILE_BYTES = 64 * 1024
# The members of a public key that Envoy needs; anything else in the file stays there.
_MEMBERS = ("kty", "crv", "x", "y", "kid")
_ALGORITHMS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256"}


class UnusableKeys(Exception):
    """A file of keys cannot be used. The text says why."""


def read_keys(file: Path) -> str:
    """Return the JWKS of a file, checked and without what Envoy does not need.

    Raises UnusableKeys.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableKeys(f"it cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UnusableKeys(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        document = json.loads(content)
        keys = [_public(entry) for entry in document["keys"]]
        if keys:
            PyJWKSet.from_dict({"keys": keys})
    except UnusableKeys:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, PyJWTError) as error:
        raise UnusableKeys(f"it is no JWKS: {error}") from error
    if not 0 < len(keys) <= MAX_KEYS:
        raise UnusableKeys(f"it has {len(keys)} keys; 1 to {MAX_KEYS} are needed")
    return json.dumps({"keys": keys}, sort_keys=True)


def nobodys_keys() -> str:
    """Return a JWKS that no token fits: nobody has the private part of its one key."""
    x = urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    key = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "nobody", "alg": "EdDSA"}
    return json.dumps({"keys": [key]})


def _public(entry: dict[str, str]) -> dict[str, str]:
    algorithm = _ALGORITHMS.get((entry.get("kty", ""), entry.get("crv", "")))
    if algorithm is None:
        raise UnusableKeys("a key is neither Ed25519 nor P-256; other kinds are not taken")
    if "d" in entry:
        raise UnusableKeys("it holds a private key; only public keys belong there")
    if not entry.get("kid"):
        raise UnusableKeys("a key has no kid, by which tokens name their key")
    return {name: entry[name] for name in _MEMBERS if name in entry} | {"alg": algorithm}
