"""The filter that limits how many calls a second a caller may send.

A caller is the subject of a token, which Envoy puts into a header once it has checked the token; a
call without a token counts for its address. On loopback every caller has the same address, so a
mesh that is published there only has no such limit.
"""

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RateLimit,
    RateLimitAction,
    RateLimitActionHeaderValueMatch,
    RateLimitActionRemoteAddress,
    RateLimitActionRequestHeaders,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.v3 import FractionalPercent, TokenBucket
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import MeshTopology
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import seconds

# Callers that are counted at once; the one that has not called for longest is forgotten.
_CALLERS = 10_000
_SUBJECT, _STRANGER, _ADDRESS = "subject", "stranger", "remote_address"
_FILL_S = 0.1
# The bucket of the calls that no descriptor matches: there are none, so it is never empty.
_UNUSED_TOKENS = 1_000_000_000


def rate_limit_filters(topology: MeshTopology) -> list[HttpFilter]:
    """Return the filter, or nothing when there is no limit."""
    calls = topology.limits.calls_per_second
    if not calls or topology.on_loopback:
        return []
    return [HttpFilter(name=names.RATE_LIMIT, typed_config=Any.pack(_limit(calls)))]


def _limit(calls: int) -> LocalRateLimit:
    every = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))
    # A caller may send the calls of a whole second at once.
    bucket = TokenBucket(
        max_tokens=calls,
        tokens_per_fill=max(1, round(calls * _FILL_S)),
        fill_interval=seconds(_FILL_S),
    )
    return LocalRateLimit(
        stat_prefix="mesh",
        token_bucket=TokenBucket(
            max_tokens=_UNUSED_TOKENS, tokens_per_fill=_UNUSED_TOKENS, fill_interval=seconds(1)
        ),
        filter_enabled=every,
        filter_enforced=every,
        rate_limits=[_by_subject(), _by_address()],
        # An entry without a value stands for every value, each with a bucket of its own.
        descriptors=[
            LocalRateLimitDescriptor(entries=[_entry(_SUBJECT)], token_bucket=bucket),
            LocalRateLimitDescriptor(
                entries=[_entry("header_match", _STRANGER), _entry(_ADDRESS)], token_bucket=bucket
            ),
        ],
        max_dynamic_descriptors=_CALLERS,
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[
            HeaderValueOption(header=HeaderValue(key="retry-after", value="1"))
        ],
    )


def _by_subject() -> RateLimit:
    header = RateLimitActionRequestHeaders(
        header_name=names.SUBJECT_HEADER, descriptor_key=_SUBJECT
    )
    return RateLimit(actions=[RateLimitAction(request_headers=header)])


def _by_address() -> RateLimit:
    """Count a call for its address, when nobody has been found out to be its subject."""
    no_subject = RateLimitActionHeaderValueMatch(
        descriptor_value=_STRANGER,
        expect_match=False,
        headers=[HeaderMatcher(name=names.SUBJECT_HEADER, present_match=True)],
    )
    return RateLimit(
        actions=[
            RateLimitAction(header_value_match=no_subject),
            RateLimitAction(remote_address=RateLimitActionRemoteAddress()),
        ]
    )


def _entry(key: str, value: str = "") -> RateLimitDescriptorEntry:
    return RateLimitDescriptorEntry(key=key, value=value)
