"""Envoy's own errors, told to HTTP clients in the contract's form.

A gRPC client keeps what it understands, a status and a plain message.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
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
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from control_plane.topology import Limits
from control_plane.xds.basics.messages import struct
from service_kit.errors import Exhausted

_EXHAUSTED = 8
# Envoy's response flags.
NO_ROUTE = "NR"
TOO_LATE = "UMSDR"
TOO_MUCH = "UO"
FULL = "the mesh has as much to do as it can; try again a little later"
# By then whatever was let in is answered.
RETRY_S = 0.5
# What the filter, router or codec that refused the request has to say.
_ITS_OWN_WORDS = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True)
class Reply:
    """How one HTTP status of Envoy's own is told."""

    http: int
    code: int
    """gRPC code, as a number."""

    message: str = _ITS_OWN_WORDS
    flag: str = ""
    """Only with this response flag."""

    as_http: int | None = None
    """Status to send instead."""


def replies(limits: Limits) -> tuple[Reply, ...]:
    """The table; first match wins."""
    too_large = f"body: is larger than the limit of {limits.max_body_bytes:,} bytes"
    too_late = "the call outlasted its deadline or the limit of its method"
    return (
        Reply(400, 3),
        Reply(401, 16),
        Reply(403, 7),
        Reply(404, 5, "there is nothing at this path", flag=NO_ROUTE),
        Reply(404, 5),
        Reply(405, 12),
        Reply(408, 4, too_late, flag=TOO_LATE, as_http=504),
        Reply(408, 4),
        Reply(413, 3, too_large),
        Reply(415, 3),
        Reply(429, 8),
        Reply(431, 3, "the headers are larger than the limit"),
        Reply(500, 13),
        Reply(501, 12),
        Reply(502, 14),
        Reply(503, _EXHAUSTED, FULL, flag=TOO_MUCH, as_http=429),
        Reply(503, 14),
        Reply(504, 4),
    )


def local_reply_config(limits: Limits) -> LocalReplyConfig:
    """The whole of it."""
    table = replies(limits)
    open_inference = [_mapper(reply, {"error": reply.message}, _of_v2()) for reply in table]
    over_http = [_mapper(reply, _contract_body(reply), _over_http()) for reply in table]
    return LocalReplyConfig(
        mappers=[*open_inference, *over_http, _no_such_method(), _too_much_over_grpc()]
    )


def _no_such_method() -> ResponseMapper:
    """What a gRPC or gRPC-Web client is told where nothing is; it gets no words otherwise."""
    return ResponseMapper(
        filter=_flag(NO_ROUTE),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string="there is no such method")
        ),
    )


def _too_much_over_grpc() -> ResponseMapper:
    """Envoy itself says UNAVAILABLE, which clients try again at once."""
    return ResponseMapper(
        filter=_flag(TOO_MUCH),
        # gRPC-Web has none but what HTTP's statuses stand for: it is told UNAVAILABLE.
        status_code=429,
        headers_to_add=_exhausted(),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string=FULL)
        ),
    )


def _exhausted() -> list[HeaderValueOption]:
    """RESOURCE_EXHAUSTED with a retry delay, for gRPC and for HTTP."""
    status = Exhausted(FULL, RETRY_S).status().SerializeToString()
    headers = {
        "grpc-status": str(_EXHAUSTED),
        "grpc-status-details-bin": b64encode(status).decode().rstrip("="),
        "retry-after": str(ceil(RETRY_S)),
    }
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
    reply: Reply, body: Mapping[str, str | int | list[str]], asked: AccessLogFilter
) -> ResponseMapper:
    """`asked` says for which requests."""
    conditions = [_status(reply.http), asked]
    if reply.flag:
        conditions.append(_flag(reply.flag))
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=conditions)),
        status_code=reply.as_http,
        headers_to_add=_exhausted() if reply.flag == TOO_MUCH else [],
        body_format_override=SubstitutionFormatString(
            json_format=struct(body), content_type="application/json"
        ),
    )


def _flag(flag: str) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag]))


def _status(code: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key="mesh.none")
    comparison = ComparisonFilter(op=ComparisonFilterOp.EQ, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


def _of_v2() -> AccessLogFilter:
    """The Open Inference Protocol over HTTP has a form of its own."""
    path = HeaderMatcher(name=":path", string_match=StringMatcher(prefix="/v2"))
    return AccessLogFilter(header_filter=HeaderFilter(header=path))


def _over_http() -> AccessLogFilter:
    """Neither gRPC nor gRPC-Web; a transcoded call looks like gRPC by now but for its old path."""
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
