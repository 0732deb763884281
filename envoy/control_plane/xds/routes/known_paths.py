"""The paths that the mesh answers over HTTP, and the methods that each of them takes.

They come from the HTTP annotations of the contract, and from what Envoy and the replicas answer
beside it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from control_plane.xds.basics import names
from control_plane.xds.basics.contract_paths import ContractPath, contract_paths, descriptor
from control_plane.xds.basics.path_patterns import joined, template_pattern

HEALTH_PATH = "/healthz"
# Templates of the paths that no annotation names.
_OTHERS: Mapping[str, str] = {
    HEALTH_PATH: "GET",
    "/v2": "GET",
    "/v2/": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/{model}": "GET",
    "/v2/models/{model}/ready": "GET",
    "/v2/models/{model}/infer": "POST",
    "/v2/models/{model}/versions/{version}": "GET",
    "/v2/models/{model}/versions/{version}/ready": "GET",
    "/v2/models/{model}/versions/{version}/infer": "POST",
}
_GRPC_SERVICES = (
    *names.PUBLIC_SERVICES,
    names.OPEN_INFERENCE_SERVICE,
    names.HEALTH_SERVICE,
    *names.REFLECTION_SERVICES,
)


@dataclass(frozen=True)
class KnownPaths:
    """Paths that take the same methods."""

    methods: tuple[str, ...]
    """HEAD goes with GET; OPTIONS is left out, since every path takes it."""

    pattern: str
    """Regular expression that matches each of these paths whole, without its query."""


@cache
def known_paths() -> tuple[KnownPaths, ...]:
    """Return every path over HTTP, by the methods that it takes."""
    methods_of = defaultdict(set, {template: {verb} for template, verb in _OTHERS.items()})
    for path in _annotated():
        methods_of[path.template].add(path.verb)
    templates_of: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for template, methods in methods_of.items():
        also = {"HEAD"} if "GET" in methods else set()
        templates_of[tuple(sorted(methods | also))].append(template)
    grouped = [
        KnownPaths(methods, pattern)
        for methods, templates in sorted(templates_of.items())
        for pattern in joined([template_pattern(template) for template in sorted(templates)])
    ]
    return (*grouped, *(KnownPaths(("POST",), pattern) for pattern in grpc_paths()))


def grpc_paths() -> Iterator[str]:
    """Yield regular expressions of the paths of every public gRPC method."""
    for services in joined(map(re.escape, _GRPC_SERVICES)):
        yield f"/({services})/[^/]+"


def _annotated() -> Iterator[ContractPath]:
    return contract_paths(FileDescriptorSet.FromString(descriptor()))


def _verbs_of_streams() -> Iterator[str]:
    for path in _annotated():
        if path.verb == "GET" and path.is_stream:
            yield path.template[path.template.rindex(":") :]


STREAMS_OVER_GET = tuple(_verbs_of_streams())
"""Ends of paths whose answer to GET is a stream, such as `:watch`; without it the path is the
thing that is watched."""
