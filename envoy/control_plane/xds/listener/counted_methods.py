"""The gRPC methods of which Envoy keeps statistics.

A client chooses the name of the method that it calls, and Envoy never forgets a name that it has
counted. So methods that nobody has are counted together.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.core.v3 import GrpcMethodList, GrpcMethodListService
from envoy_data_plane.envoy.extensions.filters.http.grpc_stats.v3 import FilterConfig
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from control_plane.xds.basics import names
from control_plane.xds.basics.contract_paths import descriptor

_OTHERS = (
    (names.HEALTH_SERVICE, names.HEALTH_METHODS),
    *((service, ("ServerReflectionInfo",)) for service in names.REFLECTION_SERVICES),
)


def method_statistics() -> FilterConfig:
    """Return the filter that counts the calls of each known method, and of all others together."""
    return FilterConfig(
        individual_method_stats_allowlist=GrpcMethodList(
            services=[
                GrpcMethodListService(name=service, method_names=list(methods))
                for service, methods in (*_public(), *_OTHERS)
            ]
        ),
        # Dots in the package's name would break the names of Prometheus metrics.
        replace_dots_in_grpc_service_name=True,
    )


def _public() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every service of the contract and its methods."""
    for file in FileDescriptorSet.FromString(descriptor()).file:
        for service in file.service:
            name = f"{file.package}.{service.name}"
            yield name, tuple(method.name for method in service.method)
