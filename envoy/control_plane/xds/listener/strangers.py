"""The filter that refuses what web pages make a browser send without its user's knowledge.

A page of any site can have its visitor's browser send requests to a mesh that only the visitor
reaches. The browser tells on itself: by the host that it asks for, when the page's owner has given
the mesh's address to a name of theirs (DNS rebinding); by the header Origin, which no other client
sends; and by a content type other than JSON, since a page has to ask first before it may send JSON.
"""

import re

from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Policy,
    Principal,
    RbacAction,
)
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.api.expr.v1alpha1 import Expr

from control_plane.topology import MeshTopology
from control_plane.xds.listener.expressions import call, constant, header_of_request, of_request
from control_plane.xds.listener.reply_table import HOST_POLICY, ORIGIN_POLICY, TYPE_POLICY

ANY = "*"
# No site's owner can have the mesh's address behind these: IP addresses, names without a dot and
# names below localhost, which browsers never look up elsewhere.
_OWN_HOSTS = (r"[0-9.]+", r"\[[0-9a-f:.]+\]", r"[^.:\[\]]+", r"([^.:\[\]]+\.)+localhost")
_PORT = r"\.?(:[0-9]+)?"
_CHANGES = "POST|PUT|PATCH|DELETE"
# Operating methods over JSON: all that change something. Predictions may come with any type, as
# `curl -d` sends them.
_PREDICTS = r"/v1/[^?]*:predict(\?.*)?"
_JSON = r"(?i)\s*application/json\s*(;.*)?"


def strangers(topology: MeshTopology) -> Rbac:
    """Refuse foreign hosts, foreign origins, and bodies of operating methods that are no JSON."""
    policies = {TYPE_POLICY: _policy(_not_json())}
    if (hosts := _hosts(topology)) is not None:
        policies[HOST_POLICY] = _policy(_not(_header(":authority", hosts)))
    if ANY not in topology.allowed_origins:
        policies[ORIGIN_POLICY] = _policy(_foreign(topology.allowed_origins), _of_another_site())
    return Rbac(rules=Rules(action=RbacAction.DENY, policies=policies))


def _hosts(topology: MeshTopology) -> str | None:
    """Return the regular expression of the hosts that are taken; None: every host is."""
    listed = topology.allowed_hosts
    if ANY in listed or not (listed or topology.on_loopback):
        return None
    return f"(?i)({'|'.join((*_OWN_HOSTS, *map(_host, listed)))}){_PORT}"


def _host(name: str) -> str:
    below = name.removeprefix("*.")
    return re.escape(name) if below == name else rf"([^.:]+\.)+{re.escape(below)}"


def _foreign(origins: tuple[str, ...]) -> Permission:
    if not origins:
        return _present("origin")
    allowed = "|".join(map(re.escape, origins))
    return _all(_present("origin"), _not(_header("origin", f"(?i)({allowed})")))


def _of_another_site() -> Expr:
    """Match unless the origin is the host itself: pages that the mesh serves may call it."""
    origin, host = header_of_request("origin"), of_request("host")
    sizes = [
        call(
            "_&&_",
            call("startsWith", constant(scheme), target=origin),
            call(
                "_==_",
                call("size", origin),
                call("_+_", call("size", host), constant(len(scheme))),
            ),
        )
        for scheme in ("http://", "https://")
    ]
    same = call("_&&_", call("endsWith", host, target=origin), call("_||_", *sizes))
    return call("!_", same)


def _not_json() -> Permission:
    """Match bodies of operating methods over JSON whose type is another or none.

    A body may come without a length; then only its type tells that there is one. No browser sends a
    body that has neither.
    """
    has_body = _any(
        _all(_present("content-length"), _not(_header("content-length", "0*"))),
        _all(_not(_present("content-length")), _present("content-type")),
    )
    return _all(
        _header(":method", _CHANGES),
        _header(":path", "/v1/.*"),
        _not(_header(":path", _PREDICTS)),
        _not(_header("content-type", _JSON)),
        has_body,
    )


def _policy(permission: Permission, condition: Expr | None = None) -> Policy:
    return Policy(permissions=[permission], principals=[Principal(any=True)], condition=condition)


def _header(name: str, pattern: str) -> Permission:
    regex = StringMatcher(safe_regex=RegexMatcher(regex=pattern))
    return Permission(header=HeaderMatcher(name=name, string_match=regex))


def _present(name: str) -> Permission:
    return Permission(header=HeaderMatcher(name=name, present_match=True))


def _not(permission: Permission) -> Permission:
    return Permission(not_rule=permission)


def _all(*permissions: Permission) -> Permission:
    return Permission(and_rules=PermissionSet(rules=list(permissions)))


def _any(*permissions: Permission) -> Permission:
    return Permission(or_rules=PermissionSet(rules=list(permissions)))
