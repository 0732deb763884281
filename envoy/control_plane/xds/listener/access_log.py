"""The access log: a JSON object a line on standard output, without query strings and bodies."""

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    GrpcStatusFilter,
    GrpcStatusFilterStatus,
    OrFilter,
    RuntimeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.google.protobuf import Any

from control_plane.xds.basics.messages import struct

# Keys of a line, and the values that Envoy puts in; keys without a value are left out.
FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "flags": "%RESPONSE_FLAGS%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "role": "%REQ(X-MESH-ROLE)%",
    # The replica says who answered: in trailers over gRPC and JSON, in headers at /v2/. Empty when
    # no model answered.
    "model": "%TRAILER(X-MESH-MODEL)%%RESP(X-MESH-MODEL)%",
    "version": "%TRAILER(X-MESH-VERSION)%%RESP(X-MESH-VERSION)%",
    "alias": "%TRAILER(X-MESH-ALIAS)%%RESP(X-MESH-ALIAS)%",
    "replica": "%TRAILER(X-MESH-REPLICA)%%RESP(X-MESH-REPLICA)%",
}


# Percentage of the refusals of a full mesh that are logged: an overload must not fill the disk.
LOGGED_REFUSALS = 1


def access_log() -> AccessLog:
    """Return the access log of the listener."""
    log_format = SubstitutionFormatString(json_format=struct(FIELDS), omit_empty_values=True)
    return AccessLog(
        name="envoy.access_loggers.stdout",
        filter=AccessLogFilter(or_filter=OrFilter(filters=[_not_refused(), _sampled()])),
        typed_config=Any.pack(StdoutAccessLog(log_format=log_format)),
    )


def _not_refused() -> AccessLogFilter:
    refusals = GrpcStatusFilter(statuses=[GrpcStatusFilterStatus.RESOURCE_EXHAUSTED], exclude=True)
    return AccessLogFilter(grpc_status_filter=refusals)


def _sampled() -> AccessLogFilter:
    sample = RuntimeFilter(
        runtime_key="mesh.none",
        percent_sampled=FractionalPercent(numerator=LOGGED_REFUSALS),
        use_independent_randomness=True,
    )
    return AccessLogFilter(runtime_filter=sample)
