"""Where the filters that find out who calls stand in the listener's chain."""

from envoy_data_plane.envoy.config.core.v3 import ExtensionConfigSource
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from control_plane.access.rules import AccessRules
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import ADS

_TYPE = "type.googleapis.com/envoy.extensions.filters.http"


def token_filters(rules: AccessRules | None) -> list[HttpFilter]:
    """Return the filters that find out whose call it is, before its body is read."""
    if rules is None:
        return []
    return [
        _discovered(names.JWT, f"{_TYPE}.jwt_authn.v3.JwtAuthentication"),
        _discovered(names.REVOKED, f"{_TYPE}.rbac.v3.RBAC"),
        # Routes say what is refused.
        HttpFilter(name=names.EARLY_CHECK, typed_config=Any.pack(Rbac())),
    ]


def scope_filters(rules: AccessRules | None) -> list[HttpFilter]:
    """Return the filter that knows the method, and refuses tokens without its scope."""
    if rules is None:
        return []
    return [HttpFilter(name=names.SCOPE_CHECK, typed_config=Any.pack(Rbac()))]


def _discovered(name: str, type_url: str) -> HttpFilter:
    source = ExtensionConfigSource(config_source=ADS, type_urls=[type_url])
    return HttpFilter(name=name, config_discovery=source)
