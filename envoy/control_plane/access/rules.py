"""Descriptions of who may call; Envoy's configuration is made from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from service_kit.callers.token_form import ISSUER

# Issuer and audience of the mesh's own tokens.
OWN = ISSUER
# Most ids of revoked tokens that Envoy is told, as many as there may be tokens.
MAX_REVOKED = 10_000
DEFAULT_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"


class Scope(StrEnum):
    """What a token allows."""

    PREDICT = "predict"
    VIEW = "view"
    DATA = "data"
    TRAIN = "train"
    RELEASE = "release"


@dataclass(frozen=True)
class Issuer:
    """An issuer of tokens by OpenID Connect that the operator trusts."""

    issuer: str
    audience: str
    jwks_uri: str
    """URL of its public keys: https, or http on loopback."""

    models_claim: str
    """Claim with the patterns of model names, separated by spaces. A token without it is refused.
    Claims inside of claims are written with a dot, such as realm_access.roles."""

    scopes: tuple[tuple[str, tuple[Scope, ...]], ...]
    """Values of the claim, and the scopes that each of them gives."""

    scope_claim: str = "scope"
    """Claim whose value is a list of texts, or a text of words separated by spaces."""

    subject_claim: str = "sub"
    ca_file: str = DEFAULT_CA_FILE
    """Certificates that the connection to jwks_uri is checked with, a path on Envoy's machine."""

    def __post_init__(self) -> None:
        for name in ("issuer", "audience", "models_claim", "scope_claim", "subject_claim"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        if self.issuer == OWN:
            raise ValueError(f"issuer {OWN!r} is the mesh itself; name another one")
        url = urlsplit(self.jwks_uri)
        if not url.hostname or url.scheme not in ("https", "http"):
            raise ValueError(f"jwks_uri {self.jwks_uri!r} is no URL of https")
        if url.scheme == "http" and not _is_loopback(url.hostname):
            raise ValueError(f"jwks_uri {self.jwks_uri!r} needs https: it is on another machine")

    @property
    def host(self) -> str:
        """Host of jwks_uri."""
        return urlsplit(self.jwks_uri).hostname or ""

    @property
    def port(self) -> int:
        """Port of jwks_uri."""
        return urlsplit(self.jwks_uri).port or (443 if self.over_tls else 80)

    @property
    def over_tls(self) -> bool:
        """Whether the keys are fetched over TLS."""
        return self.jwks_uri.startswith("https:")

    def values_for(self, scope: Scope) -> tuple[str, ...]:
        """Return the values of the claim that give a scope."""
        return tuple(value for value, scopes in self.scopes if scope in scopes)


@dataclass(frozen=True)
class AccessRules:
    """What does not change while the control plane runs."""

    open_predict: bool = False
    """Calls of the scope predict need no token. One that is sent is checked all the same."""

    issuers: tuple[Issuer, ...] = ()


@dataclass(frozen=True)
class TokenState:
    """What changes while the control plane runs."""

    keys: str
    """Public keys of the mesh's own tokens, a JWKS."""

    revoked: frozenset[str] = frozenset()
    """Ids of tokens that are refused although they are not past their expiry."""


def issuers_of(text: str) -> tuple[Issuer, ...]:
    """Read a JSON list of issuers. Raises ValueError, which says what is wrong."""
    entries = json.loads(text)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("a JSON list of objects is needed")
    issuers = tuple(_issuer(entry) for entry in entries)
    if len({issuer.issuer for issuer in issuers}) < len(issuers):
        raise ValueError("two entries have the same issuer; give each issuer one entry")
    return issuers


def _issuer(entry: Mapping[str, object]) -> Issuer:
    scopes = entry.get("scopes")
    if not isinstance(scopes, dict) or not all(isinstance(v, list) for v in scopes.values()):
        raise ValueError('scopes is needed, such as {"mesh-admins": ["view", "release"]}')
    others = {name: value for name, value in entry.items() if name != "scopes"}
    if wrong := [name for name, value in others.items() if not isinstance(value, str)]:
        raise ValueError(f"{', '.join(wrong)}: a text is needed")
    read = tuple((value, tuple(map(Scope, names))) for value, names in scopes.items())
    try:
        return Issuer(scopes=read, **others)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"an entry has a field too many or too few: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
