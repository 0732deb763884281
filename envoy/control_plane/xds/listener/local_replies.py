"""Envoy's own errors, in the contract's form for HTTP clients.

A gRPC client gets the form that it understands: a status and a plain message.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from math import ceil

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    RuntimeUInt32,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import Limits
from control_plane.xds.access.refusals import Refusal, refusals
from control_plane.xds.basics.messages import struct
from control_plane.xds.json_check.reply import refused_json
from control_plane.xds.listener.reply_table import (
    EXHAUSTED,
    FOREIGN,
    FULL,
    NO_CLUSTER,
    NO_ROUTE,
    OVER_GRPC,
    PERMISSION_DENIED,
    TOO_MUCH,
    UNKNOWN,
    UNNAMED,
    Reply,
    replies,
)
from service_kit.errors import Exhausted

# After this time, seconds, the calls that were let in are answered.
RETRY_S = 0.5
# A format that stands for no text: a header that no request has.
_NOTHING = "%REQ(x-mesh-nothing)%"


def local_reply_config(limits: Limits) -> LocalReplyConfig:
    """Return the configuration of all local replies."""
    table = replies(limits)
    open_inference = [_mapper(reply, {"error": reply.message}, _of_v2()) for reply in table]
    over_http = [_mapper(reply, _contract_body(reply), _over_http()) for reply in table]
    return LocalReplyConfig(
        mappers=[
            refused_json(),
            *(mapper for refusal in refusals() for mapper in _refused(refusal)),
            _foreign_preflight(),
            *(*open_inference, _any_other({"error": UNNAMED}, _of_v2())),
            *(*over_http, _any_other(_contract_body(Reply(0, UNKNOWN, UNNAMED)), _over_http())),
            *(_no_such_method(), _too_much_over_grpc()),
            *(_over_grpc(reply) for reply in OVER_GRPC),
        ]
    )


def one_reply(reply: Reply) -> LocalReplyConfig:
    """Return the configuration of a listener that has only this reply."""
    return LocalReplyConfig(
        mappers=[_mapper(reply, _contract_body(reply), _over_http()), _over_grpc(reply)]
    )


def _refused(refusal: Refusal) -> Iterator[ResponseMapper]:
    """Tell a caller who may not call why, at each kind of door."""
    because = [_status(refusal.envoys_status), _because(refusal.why)]
    # Over gRPC, Envoy makes its status of this one.
    asks = {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
    text = SubstitutionFormatString(
        text_format_source=DataSource(inline_string=refusal.message), omit_empty_values=True
    )
    for requests, form in (
        ([_of_v2()], _json({"error": refusal.message})),
        ([_over_http()], _json(_contract_body(Reply(0, refusal.code, refusal.message)))),
        ([], text),
    ):
        yield ResponseMapper(
            filter=_all_of([*because, *requests]),
            status_code=refusal.status,
            headers_to_add=_headers(asks),
            body_format_override=form,
        )


def _foreign_preflight() -> ResponseMapper:
    """Refuse a preflight that the filter of CORS did not answer."""
    options = HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS"))
    asks = AccessLogFilter(header_filter=HeaderFilter(header=options))
    return ResponseMapper(
        filter=_all_of([_status(404), asks, _because(NO_CLUSTER)]),
        status_code=403,
        body_format_override=_json(_contract_body(Reply(403, PERMISSION_DENIED, FOREIGN))),
    )


def _any_other(
    body: Mapping[str, str | int | list[str]], requests: AccessLogFilter
) -> ResponseMapper:
    """Give words to an error that the table does not have."""
    is_error = _status(400, ComparisonFilterOp.GE)
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=[is_error, requests])),
        body_format_override=_json(body),
    )


def _over_grpc(reply: Reply) -> ResponseMapper:
    """Answer gRPC and gRPC-Web with a code that Envoy would not derive from the HTTP status.

    The answer to gRPC-Web looks like one of gRPC until the filter of gRPC-Web has seen it.
    """
    return ResponseMapper(
        filter=_all_of(_conditions(reply)),
        status_code=200,
        headers_to_add=_headers(
            {"grpc-status": str(reply.code), "grpc-message": reply.message.replace("%", "%%")}
        ),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string=_NOTHING),
            omit_empty_values=True,
            content_type="application/grpc",
        ),
    )


def _no_such_method() -> ResponseMapper:
    """Tell gRPC and gRPC-Web clients that there is no such method; Envoy itself gives no text."""
    return ResponseMapper(
        filter=_flag(NO_ROUTE),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string="there is no such method")
        ),
    )


def _too_much_over_grpc() -> ResponseMapper:
    """Refuse with RESOURCE_EXHAUSTED; Envoy's UNAVAILABLE would make clients try again at once."""
    return ResponseMapper(
        filter=_flag(TOO_MUCH),
        # gRPC-Web clients get the gRPC status that stands for the HTTP status: UNAVAILABLE.
        status_code=429,
        headers_to_add=_exhausted(),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string=FULL)
        ),
    )


def _exhausted() -> list[HeaderValueOption]:
    """Return headers that say RESOURCE_EXHAUSTED with a retry delay, over gRPC and HTTP."""
    status = Exhausted(FULL, RETRY_S).status().SerializeToString()
    headers = {
        "grpc-status": str(EXHAUSTED),
        "grpc-status-details-bin": b64encode(status).decode().rstrip("="),
        "retry-after": str(ceil(RETRY_S)),
    }
    return _headers(headers)


def _headers(headers: Mapping[str, str]) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers.items()
    ]


def _contract_body(reply: Reply) -> dict[str, str | int | list[str]]:
    return {"code": reply.code, "message": reply.message, "details": []}


def _mapper(
    reply: Reply, body: Mapping[str, str | int | list[str]], requests: AccessLogFilter
) -> ResponseMapper:
    """Map a reply to `body`, for these requests."""
    return ResponseMapper(
        filter=_all_of([*_conditions(reply), requests]),
        status_code=reply.as_http,
        headers_to_add=_exhausted() if reply.flag == TOO_MUCH else [],
        body_format_override=_json(body),
    )


def _json(body: Mapping[str, str | int | list[str]]) -> SubstitutionFormatString:
    return SubstitutionFormatString(json_format=struct(body), content_type="application/json")


def _conditions(reply: Reply) -> list[AccessLogFilter]:
    conditions = [_status(reply.http)]
    if reply.flag:
        conditions.append(_flag(reply.flag))
    if reply.why:
        conditions.append(_because(reply.why))
    return conditions


def _all_of(conditions: list[AccessLogFilter]) -> AccessLogFilter:
    if len(conditions) == 1:
        return conditions[0]
    return AccessLogFilter(and_filter=AndFilter(filters=conditions))


def _because(why: str) -> AccessLogFilter:
    """Match replies whose reason begins like this."""
    expression = f"response.code_details.startsWith('{why}')"
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=Any.pack(ExpressionFilter(expression=expression)),
        )
    )


def _flag(flag: str) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag]))


def _status(code: int, op: ComparisonFilterOp = ComparisonFilterOp.EQ) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key="mesh.none")
    comparison = ComparisonFilter(op=op, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


def _of_v2() -> AccessLogFilter:
    """Match the Open Inference Protocol over HTTP, whose errors have a form of their own."""
    path = HeaderMatcher(name=":path", string_match=StringMatcher(prefix="/v2"))
    return AccessLogFilter(header_filter=HeaderFilter(header=path))


def _over_http() -> AccessLogFilter:
    """Match requests that are neither gRPC nor gRPC-Web.

    A transcoded call looks like gRPC by now; only the header with its old path tells it apart.
    """
    not_grpc = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    transcoded = HeaderMatcher(name="x-envoy-original-path", present_match=True)
    either = [
        AccessLogFilter(header_filter=HeaderFilter(header=header))
        for header in (not_grpc, transcoded)
    ]
    return AccessLogFilter(or_filter=OrFilter(filters=either))
