"""Conditions on the claims of a token that Envoy has checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.rbac.v3 import Principal, PrincipalSet, SourcedMetadata
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)

from control_plane.access.rules import AccessRules, Issuer, Scope
from control_plane.xds.basics import names

# What a foreign issuer's subject and patterns of models may be made of: they become headers.
_PLAIN = r"[!-~]([ -~]*[!-~])?"


@dataclass(frozen=True)
class Claims:
    """Where one issuer's claims are found."""

    payload: str
    """Name under which Envoy keeps the claims."""

    scope_claim: str
    issuer: Issuer | None = None
    """None: the mesh itself."""

    def values_for(self, scope: Scope) -> tuple[str, ...]:
        """Return the values of the claim that give a scope."""
        return (scope.value,) if self.issuer is None else self.issuer.values_for(scope)


OWN_CLAIMS = Claims("own", "scope")


def issuer_claims(number: int, issuer: Issuer) -> Claims:
    """Return where the claims of the issuer with this number are found."""
    return Claims(f"issuer-{number}", issuer.scope_claim, issuer)


def has_token(rules: AccessRules) -> Principal:
    """Match a call with a token that was found good."""
    return any_of([_claim(claims.payload, "iss", present()) for claims in _all(rules)])


def has_scope(rules: AccessRules, scope: Scope) -> Principal:
    """Match a call whose token has a scope."""
    return any_of([_gives(claims, scope) for claims in _all(rules) if claims.values_for(scope)])


def is_plain(rules: AccessRules) -> Principal:
    """Match a call whose subject and models are there and are plain text.

    The mesh's own tokens are so by their making.
    """
    own = _claim(OWN_CLAIMS.payload, "iss", present())
    if not rules.issuers:
        return own
    plain = StringMatcher(safe_regex=RegexMatcher(regex=_PLAIN))
    headers = [
        Principal(header=HeaderMatcher(name=name, string_match=plain))
        for name in (names.SUBJECT_HEADER, names.MODELS_HEADER)
    ]
    return any_of([own, all_of(headers)])


def _all(rules: AccessRules) -> list[Claims]:
    foreign = [issuer_claims(number, issuer) for number, issuer in enumerate(rules.issuers)]
    return [OWN_CLAIMS, *foreign]


def _gives(claims: Claims, scope: Scope) -> Principal:
    texts = [StringMatcher(exact=value) for value in claims.values_for(scope)]
    values = [
        ValueMatcher(list_match=ListMatcher(one_of=ValueMatcher(string_match=t))) for t in texts
    ]
    if "." in claims.scope_claim:
        values += [ValueMatcher(string_match=text) for text in texts]
    return any_of([_claim(claims.payload, claims.scope_claim, value) for value in values])


def present() -> ValueMatcher:
    """Match a claim that is there, whatever its value is."""
    return ValueMatcher(present_match=True)


def _claim(payload: str, claim: str, value: ValueMatcher) -> Principal:
    keys = [payload, *claim.split(".")]
    matcher = MetadataMatcher(
        filter=names.JWT, path=[MetadataMatcherPathSegment(key=key) for key in keys], value=value
    )
    return Principal(sourced_metadata=SourcedMetadata(metadata_matcher=matcher))


def but(principal: Principal) -> Principal:
    """Match what this one does not match."""
    return Principal(not_id=principal)


def all_of(principals: Sequence[Principal]) -> Principal:
    """Match what each of these matches."""
    (first, *others) = principals
    return Principal(and_ids=PrincipalSet(ids=list(principals))) if others else first


def any_of(principals: Sequence[Principal]) -> Principal:
    """Match what one of these matches."""
    (first, *others) = principals
    return Principal(or_ids=PrincipalSet(ids=list(principals))) if others else first
