"""The filter that refuses a request with more headers than every door takes.

The limits of Envoy's codecs are above these, since over HTTP/2 a codec cannot answer: it resets the
stream or ends the connection. A script that adds up the headers would take more CPU than this
expression, which every request pays for.
"""

from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.google.api.expr.v1alpha1 import (
    Constant,
    Expr,
    ExprCall,
    ExprIdent,
    ExprSelect,
)

from control_plane.xds.listener.reply_table import HEADER_POLICY
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADERS

# Headers that Envoy adds before its filters see a request, such as x-forwarded-for and
# x-request-id, and the four pseudo headers.
_ENVOYS_HEADERS = 12


def header_limit() -> Rbac:
    """Refuse a request that has too many headers or whose headers, path included, are too long."""
    too_long = _more(_of_request("total_size"), MAX_HEADER_BYTES)
    too_many = _more(_call("size", _of_request("headers")), MAX_HEADERS + _ENVOYS_HEADERS)
    policy = Policy(
        permissions=[Permission(any=True)],
        principals=[Principal(any=True)],
        condition=_call("_||_", too_long, too_many),
    )
    return Rbac(rules=Rules(action=RbacAction.DENY, policies={HEADER_POLICY: policy}))


def _more(value: Expr, limit: int) -> Expr:
    return _call("_>_", value, Expr(const_expr=Constant(int64_value=limit)))


def _call(function: str, *args: Expr) -> Expr:
    return Expr(call_expr=ExprCall(function=function, args=list(args)))


def _of_request(field: str) -> Expr:
    request = Expr(ident_expr=ExprIdent(name="request"))
    return Expr(select_expr=ExprSelect(operand=request, field=field))
