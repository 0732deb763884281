"""The tokens of the mesh: JWTs that the keys of the mesh's own file have signed."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from service_kit.callers.token_form import ALGORITHM, AUDIENCE, ISSUER
from service_kit.files.watching import WatchedFile

LONGEST_TOKEN = 8_192  # characters
MOST_REMEMBERED = 1_000  # tokens that are known to be good
# What a file of keys or of ids raises when it is no such file.
_UNUSABLE = (ValueError, TypeError, LookupError, jwt.PyJWTError)
_CLAIMS = ("exp", "sub", "jti", "scope", "models")


class BadToken(Exception):
    """A token is refused; the text says why, for its sender."""


@dataclass(frozen=True)
class Holder:
    """What a token that was checked says."""

    subject: str
    token_id: str
    scopes: frozenset[str]
    all_models: bool
    ends: float
    """Seconds since 1970."""


class TokenCheck:
    """Checks tokens. New keys and revoked tokens hold from the next request on."""

    def __init__(
        self, keys: Path, revoked: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        """`keys`: file of the public keys (JWKS); `revoked`: file in which the control plane lists
        the ids of revoked tokens."""
        self._keys = WatchedFile(keys, _public_keys, _public_keys(""), _UNUSABLE)
        self._revoked = WatchedFile(revoked, _ids, _ids(""), _UNUSABLE) if revoked else None
        self._clock = clock
        self._known: dict[str, Holder] = {}
        self._known_by: Any = None

    def holder(self, text: str) -> Holder:
        """Return what a token says. Raises BadToken."""
        keys = self._keys.read()
        if keys is not self._known_by:
            self._known, self._known_by = {}, keys
        found = self._known.get(text)
        if found is None:
            found = self._checked(text, keys)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[text] = found
        if found.ends <= self._clock():
            raise BadToken("the token has expired")
        if self._revoked and found.token_id in self._revoked.read():
            raise BadToken("the token was revoked")
        return found

    def _checked(self, text: str, keys: dict[str, jwt.PyJWK]) -> Holder:
        if len(text) > LONGEST_TOKEN:
            raise BadToken(
                f"the token has {len(text)} characters; at most {LONGEST_TOKEN} are read"
            )
        try:
            key = keys.get(str(jwt.get_unverified_header(text).get("kid")))
            if key is None:
                raise BadToken("no key of this mesh has signed the token")
            claims = jwt.decode(
                text,
                key,
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False},
            )
            return Holder(
                str(claims["sub"]),
                str(claims["jti"]),
                frozenset(str(claims["scope"]).split()),
                "*" in str(claims["models"]).split(),
                float(claims["exp"]),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise BadToken(f"the token is not valid: {error}") from error


def _public_keys(text: str) -> dict[str, jwt.PyJWK]:
    if not text:
        return {}
    return {
        str(key["kid"]): jwt.PyJWK(key, ALGORITHM)
        for key in json.loads(text)["keys"]
        if key.get("alg") == ALGORITHM
    }


def _ids(text: str) -> frozenset[str]:
    return frozenset(map(str, json.loads(text))) if text else frozenset()
