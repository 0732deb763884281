"""What each route asks of its caller."""

from collections.abc import Iterable, Iterator

from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Policy,
    Principal,
    RbacAction,
)
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac, RbacPerRoute
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from control_plane.access.rules import AccessRules, Scope
from control_plane.xds.access.claims import all_of, but, has_scope, has_token, is_plain
from control_plane.xds.access.method_scopes import UNLISTED, json_templates, scopes_under
from control_plane.xds.access.refusals import NOBODY_POLICY, ODD_POLICY, scope_policy
from control_plane.xds.basics import names
from control_plane.xds.basics.path_patterns import joined, template_pattern


def scope_check(rules: AccessRules | None, path: str) -> dict[str, Any]:
    """Ask for the scopes of the methods at a path: a prefix when it ends with a slash."""
    if rules is None:
        return {}
    return _per_route(names.SCOPE_CHECK, dict(_policies(rules, path)))


def token_check(rules: AccessRules | None) -> dict[str, Any]:
    """Refuse JSON without a token before its body is read, except at paths that need none.

    Which scope it needs is known when Envoy has found out the method.
    """
    if rules is None:
        return {}
    refused = [but(has_token(rules))]
    if rules.open_predict:
        refused += [but(_at(pattern)) for pattern in _open_paths()]
    return _per_route(names.EARLY_CHECK, {NOBODY_POLICY: _policy(_ANY, all_of(refused))})


def _policies(rules: AccessRules, path: str) -> Iterator[tuple[str, Policy]]:
    methods = scopes_under(path)
    scopes = sorted(set(methods.values()))
    for scope in scopes:
        one = len(scopes) == 1
        at = _ANY if one else _paths(m for m, asked in methods.items() if asked is scope)
        yield scope_policy(scope), _policy(at, _lacks(rules, scope))
        if not (rules.open_predict and scope is Scope.PREDICT):
            yield f"{NOBODY_POLICY}-{scope}", _policy(at, but(has_token(rules)))
    if len(scopes) > 1:
        unlisted = Permission(not_rule=_paths(methods))
        yield f"{scope_policy(UNLISTED)}-unlisted", _policy(unlisted, _lacks(rules, UNLISTED))
        yield f"{NOBODY_POLICY}-unlisted", _policy(unlisted, but(has_token(rules)))
    if rules.issuers:
        odd = all_of([has_token(rules), but(is_plain(rules))])
        yield ODD_POLICY, _policy(_ANY, odd)


_ANY = Permission(any=True)


def _lacks(rules: AccessRules, scope: Scope) -> Principal:
    return all_of([has_token(rules), but(has_scope(rules, scope))])


def _policy(permission: Permission, principal: Principal) -> Policy:
    return Policy(permissions=[permission], principals=[principal])


def _paths(paths: Iterable[str]) -> Permission:
    rules = [
        Permission(url_path=PathMatcher(path=StringMatcher(exact=path))) for path in sorted(paths)
    ]
    return Permission(or_rules=PermissionSet(rules=rules))


def _at(pattern: str) -> Principal:
    regex = StringMatcher(safe_regex=RegexMatcher(regex=pattern))
    return Principal(url_path=PathMatcher(path=regex))


def _open_paths() -> Iterator[str]:
    return joined([template_pattern(t) for t in sorted(set(json_templates(Scope.PREDICT)))])


def _per_route(filter_name: str, policies: dict[str, Policy]) -> dict[str, Any]:
    rules = Rules(action=RbacAction.DENY, policies=policies)
    return {filter_name: Any.pack(RbacPerRoute(rbac=Rbac(rules=rules)))}
