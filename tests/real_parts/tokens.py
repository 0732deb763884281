"""Keys and tokens as the mesh has them, and tokens as no mesh makes them."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OWN = "champion-mesh"


@dataclass(frozen=True)
class SigningKey:
    """A pair of keys."""

    kid: str
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def public(self) -> dict[str, Any]:
        """Return the public key, an entry of a JWKS."""
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid}

    def token(self, *scopes: str, **claims: Any) -> str:
        """Sign a token with these scopes; `claims` replace those that it would have, None: none."""
        now = int(time.time())
        whole = {
            **{"iss": OWN, "aud": OWN, "sub": "tester", "jti": "id-1"},
            **{"iat": now, "exp": now + 600, "scope": " ".join(scopes), "models": "*"},
        } | claims
        claims = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(claims, self.private, algorithm="EdDSA", headers={"kid": self.kid})


def jwks(*keys: SigningKey) -> str:
    """Return the public keys as a JWKS."""
    return json.dumps({"keys": [key.public() for key in keys]})


def with_claims(token: str, **claims: Any) -> str:
    """Return a token whose claims were changed after it was signed."""
    header, body, signature = token.split(".")
    return ".".join((header, part(unpart(body) | claims), signature))


def unsigned(token: str, alg: str = "none", signature: str = "") -> str:
    """Return a token that says it needs no signature, or one that anybody can make."""
    _, body, _ = token.split(".")
    return f"{part({'alg': alg, 'typ': 'JWT'})}.{body}.{signature}"


def part(content: Mapping[str, Any]) -> str:
    """Encode one part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def unpart(text: str) -> dict[str, Any]:
    """Decode one part of a token."""
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return content
