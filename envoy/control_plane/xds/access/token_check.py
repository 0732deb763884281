"""The two filters that come over ECDS, so that their changes drain no listener: the one that checks
tokens, and the one that refuses revoked ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpUri, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Action, RbacAction
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtProviderNormalizePayload,
    JwtRequirement,
    RemoteJwks,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.google.protobuf import Any, Empty
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as XdsExtension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherTree,
    MatcherMatcherTreeMatchMap,
    MatcherOnMatch,
)

from control_plane.access.rules import OWN, AccessRules, Issuer, TokenState
from control_plane.xds.access.claims import OWN_CLAIMS, issuer_claims
from control_plane.xds.access.refusals import REVOKED_POLICY
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import seconds

# Checking a signature takes longer than all else that Envoy does for a small call, so each of its
# workers remembers this many tokens of an issuer that it has checked.
REMEMBERED_TOKENS = 1_000
MAX_REMEMBERED_BYTES = 4096
# Seconds by which a foreign issuer's clock may differ. The mesh's own tokens are made by the clock
# that checks them, or by one that is as well kept; 0 would mean Envoy's default of a minute.
FOREIGN_SKEW_S = 30
OWN_SKEW_S = 1
KEYS_KEPT_S = 600.0
FETCH_TIMEOUT_S = 5.0
FETCH_AGAIN_S = 5.0
# The scheme's name is written in either way.
_TOKEN_IN = [JwtHeader(name="authorization", value_prefix=p) for p in ("Bearer ", "bearer ")]


@dataclass(frozen=True)
class Extension:
    """The configuration of one filter, as a resource of its own."""

    name: str
    encoded: bytes

    def __bytes__(self) -> bytes:
        return self.encoded

    def config(self) -> Any:
        """Return the filter's configuration alone."""
        config = TypedExtensionConfig.parse(self.encoded).typed_config
        assert config is not None
        return config


@lru_cache(maxsize=4)
def extensions(rules: AccessRules, state: TokenState) -> tuple[Extension, ...]:
    """Return both filters."""
    return (_keys(rules, state.keys), _revoked(state.revoked))


@lru_cache(maxsize=4)
def _keys(rules: AccessRules, keys: str) -> Extension:
    providers = {OWN_CLAIMS.payload: _own(keys)}
    for number, issuer in enumerate(rules.issuers):
        providers[issuer_claims(number, issuer).payload] = _foreign(number, issuer)
    message = JwtAuthentication(
        providers=providers,
        # Who sends no token passes here; what he may call is for the next filters to say.
        rules=[
            RequirementRule(
                match=RouteMatch(prefix="/"), requires=JwtRequirement(allow_missing=Empty())
            )
        ],
    )
    return _extension(names.JWT, Any.pack(message))


def _own(keys: str) -> JwtProvider:
    provider = _provider(OWN, OWN, OWN_SKEW_S)
    provider.local_jwks = DataSource(inline_string=keys)
    provider.payload_in_metadata = OWN_CLAIMS.payload
    provider.normalize_payload_in_metadata = _lists("scope")
    provider.claim_to_headers = _headers(
        {
            names.SUBJECT_HEADER: "sub",
            names.SCOPES_HEADER: "scope",
            names.MODELS_HEADER: "models",
            names.JTI_HEADER: "jti",
        }
    )
    return provider


def _foreign(number: int, issuer: Issuer) -> JwtProvider:
    provider = _provider(issuer.issuer, issuer.audience, FOREIGN_SKEW_S)
    uri = HttpUri(
        uri=issuer.jwks_uri, cluster=names.issuer_cluster(number), timeout=seconds(FETCH_TIMEOUT_S)
    )
    # An issuer that is away must not keep Envoy from starting.
    fetch = JwksAsyncFetch(fast_listener=True, failed_refetch_duration=seconds(FETCH_AGAIN_S))
    provider.remote_jwks = RemoteJwks(
        http_uri=uri, cache_duration=seconds(KEYS_KEPT_S), async_fetch=fetch
    )
    provider.payload_in_metadata = issuer_claims(number, issuer).payload
    if "." not in issuer.scope_claim:
        provider.normalize_payload_in_metadata = _lists(issuer.scope_claim)
    provider.claim_to_headers = _headers(
        {
            names.SUBJECT_HEADER: issuer.subject_claim,
            names.SCOPES_HEADER: issuer.scope_claim,
            names.MODELS_HEADER: issuer.models_claim,
            names.JTI_HEADER: "jti",
            names.ISSUER_HEADER: "iss",
        }
    )
    return provider


def _provider(issuer: str, audience: str, skew_s: int) -> JwtProvider:
    return JwtProvider(
        issuer=issuer,
        audiences=[audience],
        require_expiration=True,
        clock_skew_seconds=skew_s,
        from_headers=_TOKEN_IN,
        jwt_cache_config=JwtCacheConfig(
            jwt_cache_size=REMEMBERED_TOKENS, jwt_max_token_size=MAX_REMEMBERED_BYTES
        ),
    )


def _lists(claim: str) -> JwtProviderNormalizePayload:
    """Split a claim that is words separated by spaces into a list."""
    return JwtProviderNormalizePayload(space_delimited_claims=[claim])


def _headers(claims: dict[str, str]) -> list[JwtClaimToHeader]:
    return [JwtClaimToHeader(header_name=h, claim_name=claim) for h, claim in claims.items()]


@lru_cache(maxsize=4)
def _revoked(ids: frozenset[str]) -> Extension:
    """Refuse the tokens with these ids. A map finds an id at once, however many there are."""
    passes = MatcherOnMatch(action=_action("passes", RbacAction.ALLOW))
    # Envoy refuses a map without entries. No token has the empty id.
    message = Rbac(
        matcher=Matcher(matcher_tree=_by_id(ids), on_no_match=passes)
        if ids
        else Matcher(on_no_match=passes)
    )
    return _extension(names.REVOKED, Any.pack(message))


def _by_id(ids: Iterable[str]) -> MatcherMatcherTree:
    refused = MatcherOnMatch(action=_action(REVOKED_POLICY, RbacAction.DENY))
    header = HttpRequestHeaderMatchInput(header_name=names.JTI_HEADER)
    return MatcherMatcherTree(
        input=XdsExtension(name="token id", typed_config=Any.pack(header)),
        exact_match_map=MatcherMatcherTreeMatchMap(map=dict.fromkeys(sorted(ids), refused)),
    )


def _action(name: str, action: RbacAction) -> XdsExtension:
    return XdsExtension(name=name, typed_config=Any.pack(Action(name=name, action=action)))


def _extension(name: str, config: Any) -> Extension:
    return Extension(name, bytes(TypedExtensionConfig(name=name, typed_config=config)))
