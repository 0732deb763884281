"""Envoy's own errors, told to HTTP clients in the contract's form.

A gRPC client keeps what it understands, a status and a plain message.
"""

from dataclasses import dataclass

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
from control_plane.xds.messages import struct

# Envoy's response flags.
NO_ROUTE = "NR"
TOO_LATE = "UMSDR"
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
        Reply(503, 14),
        Reply(504, 4),
    )


def local_reply_config(limits: Limits) -> LocalReplyConfig:
    """The whole of it."""
    over_http = [_mapper(reply) for reply in replies(limits)]
    return LocalReplyConfig(mappers=[*over_http, _no_such_method()])


def _no_such_method() -> ResponseMapper:
    """What a gRPC or gRPC-Web client is told where nothing is; it gets no words otherwise."""
    return ResponseMapper(
        filter=_flag(NO_ROUTE),
        body_format_override=SubstitutionFormatString(
            text_format_source=DataSource(inline_string="there is no such method")
        ),
    )


def _mapper(reply: Reply) -> ResponseMapper:
    conditions = [_status(reply.http), _over_http()]
    if reply.flag:
        conditions.append(_flag(reply.flag))
    body = struct({"code": reply.code, "message": reply.message, "details": []})
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=AndFilter(filters=conditions)),
        status_code=reply.as_http,
        body_format_override=SubstitutionFormatString(
            json_format=body, content_type="application/json"
        ),
    )


def _flag(flag: str) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag]))


def _status(code: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key="mesh.none")
    comparison = ComparisonFilter(op=ComparisonFilterOp.EQ, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


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
