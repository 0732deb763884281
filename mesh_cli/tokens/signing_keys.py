"""The key that signs tokens, and the public keys with which Envoy checks them.

The private key stays with the command: no part of the mesh reads it. The file of public keys holds
more than one while a key is rotated out, and notes when the last token of each key ends.
"""

import json
import time
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from mesh_cli.errors import CliError
from mesh_cli.tokens.grant import Grant, Token
from mesh_cli.tokens.key_files import write_in_place
from service_kit.callers.token_form import ALGORITHM, AUDIENCE, ISSUER
from service_kit.files.writing import locked

PRIVATE_FILE, PUBLIC_FILE = "token-signing-key.pem", "token-keys.json"
# Seconds within which new keys and revoked tokens hold at every door.
HOLDS_WITHIN_S = 5.0
# Public keys that are kept at most: the one that signs, and those of tokens that have not ended.
MAX_KEYS = 8
# Seconds for which the key of an ended token stays, since clocks differ.
_CLOCKS_DIFFER_S = 3_600
# Member of a public key: when the last token that it has signed ends, in seconds since 1970.
_LAST_END = "last_token_ends"


class SigningKeys:
    """Two files in the folder of the secrets."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self.private_file = folder / PRIVATE_FILE
        self.public_file = folder / PUBLIC_FILE

    def make(self) -> bool:
        """Make the files that are missing, and return whether one was. Raises CliError."""
        with locked(self._folder):
            missing = not (self.private_file.exists() and self.public_file.exists())
            key = self._key()
            self._write_public(self._kept(self._public_keys()), key)
        return missing

    def sign(self, grant: Grant, life_s: int) -> Token:
        """Make a token that holds for `life_s` seconds. Raises CliError."""
        with locked(self._folder):
            key = self._key()
            now = int(self._clock())
            token_id, end = uuid.uuid4().hex, now + life_s
            claims = {
                **{"iss": ISSUER, "aud": AUDIENCE, "sub": grant.subject, "jti": token_id},
                **{"iat": now, "exp": end},
                **{"scope": " ".join(grant.scopes), "models": " ".join(grant.models)},
            }
            text = jwt.encode(claims, key, ALGORITHM, {"kid": key_id(key)})
            self._write_public(self._public_keys(), key, end)
        return Token(token_id, grant, now, end, text)

    def rotate(self, drop_old: bool = False, settle: Callable[[float], None] = time.sleep) -> None:
        """Sign with a new key from now on. Raises CliError.

        The old public keys stay until their last tokens have ended, unless `drop_old`. Until every
        door knows the new key, the old one goes on signing: `settle` waits for so many seconds.
        """
        with locked(self._folder):
            kept = [] if drop_old else self._kept(self._public_keys())
            if len(kept) >= MAX_KEYS:
                raise CliError(
                    f"{len(kept)} keys have tokens that have not ended, and at most {MAX_KEYS} are"
                    " kept: `mesh token rotate --now` drops the old ones, and their tokens end"
                )
            key = Ed25519PrivateKey.generate()
            self._write_public(kept, key)
            if not drop_old:
                settle(HOLDS_WITHIN_S)
            self._write_private(key)

    def signed_here(self, text: str) -> bool:
        """Whether the present key has signed a token, which may have ended."""
        try:
            jwt.decode(
                text,
                self._key().public_key(),
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return False
        return True

    def _key(self) -> Ed25519PrivateKey:
        """The key that signs, made when it is missing."""
        if not self.private_file.exists():
            key = Ed25519PrivateKey.generate()
            self._write_private(key)
            return key
        try:
            found = serialization.load_pem_private_key(self.private_file.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CliError(f"{self.private_file} is no private key: {_MEND}") from error
        except OSError as error:
            raise CliError(
                f"{self.private_file} cannot be read ({error.strerror}): run `mesh` as the user"
                " who owns it"
            ) from error
        if not isinstance(found, Ed25519PrivateKey):
            raise CliError(f"{self.private_file} is no Ed25519 key: {_MEND}")
        return found

    def _write_private(self, key: Ed25519PrivateKey) -> None:
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        write_in_place(self.private_file, text)

    def _public_keys(self) -> list[dict[str, Any]]:
        if not self.public_file.exists():
            return []
        try:
            document = json.loads(self.public_file.read_text())
            keys = document["keys"]
            return [{**each, _LAST_END: int(each.get(_LAST_END, 0))} for each in keys]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CliError(
                f"{self.public_file} is no list of keys: remove it and run `mesh up`; tokens that"
                " the present key has signed go on working"
            ) from error

    def _kept(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The keys of tokens that have not ended."""
        now = self._clock() - _CLOCKS_DIFFER_S
        return [key for key in keys if key[_LAST_END] > now]

    def _write_public(
        self, keys: list[dict[str, Any]], key: Ed25519PrivateKey, end: int = 0
    ) -> None:
        """Write the public keys: that of `key` first, whose last token ends at `end` or later."""
        name = key_id(key)
        ends = [end, *(each[_LAST_END] for each in keys if each["kid"] == name)]
        public = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
        first = {**public, "kid": name, "alg": ALGORITHM, "use": "sig", _LAST_END: max(ends)}
        others = [each for each in keys if each["kid"] != name]
        text = json.dumps({"keys": [first, *others]}, indent=1)
        if not self.public_file.exists() or self.public_file.read_text() != text:
            write_in_place(self.public_file, text)


_MEND = (
    "remove it and run `mesh up`, which makes a new one; tokens that the old key has signed go on"
    " working until they end"
)


def key_id(key: Ed25519PrivateKey) -> str:
    """The name of a key, by which tokens name it: the beginning of its public half's SHA-256."""
    raw = key.public_key().public_bytes_raw()
    return sha256(raw).hexdigest()[:16]
