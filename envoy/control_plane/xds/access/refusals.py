"""What callers are told whom the filters of this folder refuse. Pure data, no messages."""

from collections.abc import Iterator
from dataclasses import dataclass

from control_plane.access.rules import Scope

# Names of policies, or the beginnings of names; Envoy's reason for a refusal has the name of the
# one that refused, and no spaces.
NOBODY_POLICY = "nobody"
REVOKED_POLICY = "revoked"
ODD_POLICY = "odd-claims"
_SCOPE_POLICY = "scope"
_BY_POLICY = "rbac_access_denied_matched_policy["
_BY_JWT = "jwt_authn_access_denied{"
UNAUTHENTICATED = 16
PERMISSION_DENIED = 7
_SEND_ANOTHER = "`mesh token create` makes another one"


def scope_policy(scope: Scope) -> str:
    """Return the name of the policy that refuses tokens without a scope."""
    return f"{_SCOPE_POLICY}-{scope}"


@dataclass(frozen=True)
class Refusal:
    """One reason of Envoy and the words for it."""

    why: str
    """Envoy's reason begins like this."""

    envoys_status: int
    """HTTP status that Envoy itself would send."""

    status: int
    code: int
    """gRPC code, as a number."""

    message: str
    """In Envoy's format: %REQ(…)% stands for a header of the request."""


def refusals() -> Iterator[Refusal]:
    """Yield every refusal; the first one that fits applies."""
    yield _unauthenticated(
        f"{_BY_POLICY}{NOBODY_POLICY}",
        "authorization: a token is needed for this call; send Bearer and a token, which the "
        "operator of the mesh makes with `mesh token create`",
        403,
    )
    yield _unauthenticated(
        f"{_BY_POLICY}{REVOKED_POLICY}", f"the token is revoked; {_SEND_ANOTHER}", 403
    )
    for scope in Scope:
        text = f"this call needs the scope {scope}; the token has %REQ(x-mesh-scopes)%"
        why = f"{_BY_POLICY}{scope_policy(scope)}"
        yield Refusal(why, 403, 403, PERMISSION_DENIED, text)
    yield Refusal(
        f"{_BY_POLICY}{ODD_POLICY}",
        *(403, 403, PERMISSION_DENIED),
        "the token names no subject or no models in plain text; its issuer has to add both claims",
    )
    # The one fault of a token that Envoy itself calls forbidden.
    why = f"{_BY_JWT}Audiences_in_Jwt"
    yield _unauthenticated(why, "the token is for another audience than this mesh", 403)
    for reason, words in _BAD_TOKENS:
        yield _unauthenticated(f"{_BY_JWT}{reason}", words)
    yield _unauthenticated(_BY_JWT, f"the token is not one that can be checked; {_SEND_ANOTHER}")


def _unauthenticated(why: str, message: str, envoys_status: int = 401) -> Refusal:
    return Refusal(why, envoys_status, 401, UNAUTHENTICATED, message)


# Envoy's words for what is wrong with a token, and ours.
_BAD_TOKENS = (
    ("Jwt_is_expired", f"the token has expired; {_SEND_ANOTHER}"),
    ("Jwt_not_yet_valid", "the token is not valid yet; look at the clocks of both machines"),
    (
        "Jwt_issuer_is_not_configured",
        "the token is of an issuer that this mesh does not trust; its operator can name it in "
        "CONTROL_PLANE_OIDC_ISSUERS",
    ),
    (
        "Jwt_verification_fails",
        "the token's signature is wrong, its key is not in use any more, or it has no expiry; "
        f"{_SEND_ANOTHER}",
    ),
    (
        "Jwks_doesn",
        f"the key that the token was signed with is not in use any more; {_SEND_ANOTHER}",
    ),
    (
        "Jwt_header_[alg]",
        "the token's alg is not one that is taken; the mesh signs with EdDSA",
    ),
    (
        "Jwks_remote_fetch_is_failed",
        "the keys of the token's issuer cannot be fetched at present; try again a little later",
    ),
    ("Jwt_is_not_in_the_form", f"the token is no JWT with a signature; {_SEND_ANOTHER}"),
)
