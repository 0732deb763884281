"""The table of paths and methods, and the routes that refuse by it."""

import re

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from control_plane.xds.basics.contract_paths import descriptor
from control_plane.xds.routes.known_paths import (
    STREAMS_OVER_GET,
    grpc_paths,
    known_paths,
)
from control_plane.xds.routes.refusals import refusals

# Envoy refuses an expression of more steps; one character is at most one step.
MOST_STEPS = 100


def methods_of(path: str) -> list[tuple[str, ...]]:
    return [known.methods for known in known_paths() if re.fullmatch(known.pattern, path)]


def test_every_annotated_path_is_there_with_its_method() -> None:
    found = 0
    for file in FileDescriptorSet.FromString(descriptor()).file:
        for service in file.service:
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                for binding in (rule, *rule.additional_bindings):
                    verb = binding.WhichOneof("pattern")
                    if verb:
                        found += 1
                        path = re.sub("{[a-z]+}", "x_1", getattr(binding, verb))
                        (methods,) = methods_of(path)
                        assert verb.upper() in methods
    assert found > 20


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/models/reviews", ("DELETE", "GET", "HEAD")),
        ("/v1/models/reviews:predict", ("POST",)),
        ("/v1/models/reviews/traffic", ("GET", "HEAD", "PUT")),
        ("/healthz", ("GET", "HEAD")),
        ("/v2/models/reviews/versions/1/infer", ("POST",)),
        ("/mesh.v1.PredictService/Predict", ("POST",)),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ("POST",)),
    ],
)
def test_a_path_has_one_entry(path: str, methods: tuple[str, ...]) -> None:
    assert methods_of(path) == [methods]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/models/",
        "/v1/models/reviews:foo",
        "/v1/models/a/b",
        "/v2/models/a/infer/b",
        "/mesh.v1.ReplicaService/GetState",
        "/meshxv1.PredictService/Predict",
    ],
)
def test_other_paths_have_none(path: str) -> None:
    assert methods_of(path) == []


def test_no_expression_is_longer_than_envoy_takes() -> None:
    patterns = [*(known.pattern for known in known_paths()), *grpc_paths()]
    assert max(map(len, patterns)) <= MOST_STEPS


def test_head_of_a_stream_asks_for_what_is_watched() -> None:
    assert STREAMS_OVER_GET == (":watch",)


def test_refusals_lead_to_no_cluster() -> None:
    for route in refusals():
        assert route.route is None
        assert route.direct_response is not None
        assert route.direct_response.status in (204, 405, 415)
