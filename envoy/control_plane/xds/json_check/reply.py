"""The answer to a JSON request that the script refused, in the form of the services' own errors."""

from collections.abc import Mapping

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, MetadataFilter
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    ValueMatcher,
)

from control_plane.xds.basics.messages import Json, struct
from control_plane.xds.json_check.script import METADATA

_INVALID_ARGUMENT = 3


def refused_json() -> ResponseMapper:
    """Answer 400 with the field and what is wrong with it."""
    violation: Json = {"field": _left("field"), "description": _left("problem")}
    detail: Json = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [violation],
    }
    body: Mapping[str, Json] = {
        "code": _INVALID_ARGUMENT,
        "message": _left("message"),
        "details": [detail],
    }
    return ResponseMapper(
        filter=AccessLogFilter(metadata_filter=_refused()),
        status_code=400,
        body_format_override=SubstitutionFormatString(
            json_format=struct(body), content_type="application/json"
        ),
    )


def _left(key: str) -> str:
    """Return the format of a text that the script left in the request's metadata."""
    return f"%DYNAMIC_METADATA({METADATA}:{key})%"


def _refused() -> MetadataFilter:
    return MetadataFilter(
        matcher=MetadataMatcher(
            filter=METADATA,
            path=[MetadataMatcherPathSegment(key="message")],
            value=ValueMatcher(present_match=True),
        ),
        # Requests without the key are not matched; this is true by default.
        match_if_key_not_found=False,
    )
