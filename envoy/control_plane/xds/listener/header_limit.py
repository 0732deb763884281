"""The filter that refuses a request with more headers than every door takes.

The limits of Envoy's codecs are above these, since over HTTP/2 a codec cannot answer: it resets the
stream or ends the connection. A script that adds up the headers would take more CPU than this
expression, which every request pays for.
"""

from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac

from control_plane.xds.listener.expressions import call, constant, of_request
from control_plane.xds.listener.reply_table import HEADER_POLICY
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADERS

# Headers that Envoy adds before its filters see a request, such as x-forwarded-for and
# x-request-id, and the four pseudo headers.
_ENVOYS_HEADERS = 12


def header_limit() -> Rbac:
    """Refuse a request that has too many headers or whose headers, path included, are too long."""
    too_long = call("_>_", of_request("total_size"), constant(MAX_HEADER_BYTES))
    count = call("size", of_request("headers"))
    too_many = call("_>_", count, constant(MAX_HEADERS + _ENVOYS_HEADERS))
    policy = Policy(
        permissions=[Permission(any=True)],
        principals=[Principal(any=True)],
        condition=call("_||_", too_long, too_many),
    )
    return Rbac(rules=Rules(action=RbacAction.DENY, policies={HEADER_POLICY: policy}))
