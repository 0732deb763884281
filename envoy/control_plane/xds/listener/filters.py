"""The HTTP filters, in the order in which a request passes them."""

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors
from envoy_data_plane.envoy.extensions.filters.http.grpc_field_extraction.v3 import (
    FieldExtractions,
    GrpcFieldExtractionConfig,
    RequestFieldValueDisposition,
)
from envoy_data_plane.envoy.extensions.filters.http.grpc_json_transcoder.v3 import (
    GrpcJsonTranscoder,
    GrpcJsonTranscoderPrintOptions,
    GrpcJsonTranscoderRequestValidationOptions,
)
from envoy_data_plane.envoy.extensions.filters.http.grpc_web.v3 import GrpcWeb
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any
from grpc_health.v1 import health_pb2

from control_plane.topology import Limits, MeshTopology
from control_plane.xds.access.filters import scope_filters, token_filters
from control_plane.xds.basics import names
from control_plane.xds.basics.contract_paths import descriptor
from control_plane.xds.basics.messages import percent
from control_plane.xds.basics.wire import field
from control_plane.xds.json_check.script import script
from control_plane.xds.listener import scripts
from control_plane.xds.listener.counted_methods import method_statistics
from control_plane.xds.listener.header_limit import header_limit
from control_plane.xds.listener.rate_limits import rate_limit_filters
from control_plane.xds.listener.strangers import strangers
from control_plane.xds.routes.known_paths import HEALTH_PATH


def http_filters(topology: MeshTopology) -> list[HttpFilter]:
    """Return the filter chain."""
    limits = topology.limits
    return [
        HttpFilter(name=names.CORS, typed_config=Any.pack(Cors())),
        HttpFilter(name="envoy.filters.http.grpc_web", typed_config=Any.pack(GrpcWeb())),
        # After gRPC-Web, which gives its refusal the form that such a client reads.
        HttpFilter(name=names.HEADER_LIMIT, typed_config=Any.pack(header_limit())),
        HttpFilter(name=names.STRANGERS, typed_config=Any.pack(strangers(topology))),
        *token_filters(topology.access),
        # After the filters that find out who calls.
        *rate_limit_filters(topology),
        # Routes switch this on for HEAD alone.
        HttpFilter(name=names.HEAD, typed_config=Any.pack(scripts.head()), disabled=True),
        HttpFilter(name="envoy.filters.http.health_check", typed_config=Any.pack(_health())),
        # Routes switch the next two on for JSON alone. The check stands before the buffer, so that
        # it reads a large body piece by piece.
        HttpFilter(name=names.JSON_CHECK, typed_config=Any.pack(_json_check()), disabled=True),
        # The buffer limits the whole body; the transcoder limits only the part of it that it holds.
        HttpFilter(name=names.BUFFER, typed_config=Any.pack(_body(limits)), disabled=True),
        HttpFilter(name=names.TRANSCODER, typed_config=Any.pack(_transcoder(limits))),
        # After the transcoder, which finds out the method that JSON is for.
        *scope_filters(topology.access),
        # Routes switch the next three on for questions about health, and while any model's traffic
        # is split.
        HttpFilter(
            name=names.FIRST_MESSAGE, typed_config=Any.pack(scripts.first_message()), disabled=True
        ),
        HttpFilter(
            name=names.FIELD_EXTRACTION, typed_config=Any.pack(_model_name()), disabled=True
        ),
        HttpFilter(name=names.LUA, typed_config=Any.pack(scripts.route_again()), disabled=True),
        HttpFilter(
            name="envoy.filters.http.grpc_stats", typed_config=Any.pack(method_statistics())
        ),
        HttpFilter(
            name="envoy.filters.http.router",
            typed_config=Any.pack(Router(suppress_envoy_headers=True)),
        ),
    ]


def _body(limits: Limits) -> Buffer:
    return Buffer(max_request_bytes=limits.max_body_bytes)


def _health() -> HealthCheck:
    """Answer 200 at /healthz while any replica is healthy, for balancers and containers."""
    path = HeaderMatcher(name=":path", string_match=StringMatcher(exact=HEALTH_PATH))
    get = HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))
    return HealthCheck(
        pass_through_mode=False,
        headers=[path, get],
        cluster_min_healthy_percentages={names.CHAMPION: percent(1)},
    )


def _transcoder(limits: Limits) -> GrpcJsonTranscoder:
    return GrpcJsonTranscoder(
        proto_descriptor_bin=descriptor(),
        services=list(names.PUBLIC_SERVICES),
        convert_grpc_status=True,
        max_request_body_size=limits.max_body_bytes,
        max_response_body_size=limits.max_response_bytes,
        request_validation_options=GrpcJsonTranscoderRequestValidationOptions(
            reject_unknown_method=True,
            reject_unknown_query_parameters=True,
            reject_binding_body_field_collisions=True,
        ),
        print_options=GrpcJsonTranscoderPrintOptions(
            always_print_primitive_fields=True, stream_newline_delimited=True
        ),
    )


def _model_name() -> GrpcFieldExtractionConfig:
    """Take the model from a call's first message, so that routes can tell models apart, and from a
    question about health the service.
    """
    fields = [(f"{service}.{method}", name) for service, method, name in names.MODEL_FIELDS]
    fields += [(f"{names.HEALTH_SERVICE}.{m}", names.HEALTH_FIELD) for m in names.HEALTH_METHODS]
    # A file of a descriptor set is its field 1, so the files of two sets are those of both.
    health = field(1, health_pb2.DESCRIPTOR.serialized_pb)
    return GrpcFieldExtractionConfig(
        descriptor_set=DataSource(inline_bytes=descriptor() + health),
        extractions_by_method={
            method: FieldExtractions(
                request_field_extractions={name: RequestFieldValueDisposition()}
            )
            for method, name in fields
        },
    )


def _json_check() -> Lua:
    return Lua(default_source_code=DataSource(inline_string=script(descriptor())))
