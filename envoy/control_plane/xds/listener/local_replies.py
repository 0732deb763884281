"""Envoy's own errors, in the contract's form for HTTP clients.

A gRPC client gets the form that it understands: a status and a plain message.
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
from control_plane.xds.json_check.reply import refused_json
from service_kit.errors import Exhausted

_EXHAUSTED = 8
# Envoy's response flags.
NO_ROUTE = "NR"
TOO_LATE = "UMSDR"
TOO_MUCH = "UO"
FULL = "the mesh has as much to do as it can; try again a little later"
# After this time, seconds, the calls that were let in are answered.
RETRY_S = 0.5
# The text of the filter, router or codec that refused the request.
_ENVOYS_TEXT = "%LOCAL_REPLY_BODY%"


@dataclass(frozen=True)
class Reply:
    """The answer to clients for one HTTP status that Envoy itself gives."""

    http: int
    code: int
    """gRPC code, as a number."""

    message: str = _ENVOYS_TEXT
    flag: str = ""
    """The answer applies only with this response flag; empty: with any."""

    as_http: int | None = None
    """HTTP status to send instead; None: the same one."""


def replies(limits: Limits) -> tuple[Reply, ...]:
    """Return the table of answers; the first one that matches applies."""
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
    """Return the configuration of all local replies."""
    table = replies(limits)
    open_inference = [_mapper(reply, {"error": reply.message}, _of_v2()) for reply in table]
    over_http = [_mapper(reply, _contract_body(reply), _over_http()) for reply in table]
    return LocalReplyConfig(
        mappers=[
            refused_json(),
            *(*open_inference, *over_http),
            *(_no_such_method(), _too_much_over_grpc()),
        ]
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
    reply: Reply, body: Mapping[str, str | int | list[str]], requests: AccessLogFilter
) -> ResponseMapper:
    """Map a reply to `body`, for these requests."""
    conditions = [_status(reply.http), requests]
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
