"""Which scope each method and route asks for: none can be forgotten."""

from dataclasses import replace
from typing import Any

import pytest
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from control_plane.access.rules import Scope
from control_plane.topology import Address, MeshTopology
from control_plane.xds import InconsistentSnapshot, build_snapshot
from control_plane.xds.access.method_scopes import SCOPE_OF
from control_plane.xds.basics import names
from control_plane.xds.basics.contract_paths import descriptor
from inference import open_inference_pb2
from tests.unit.control_plane.topologies import GUARDED, SPLIT, TOKENS, UNARY


def methods_of_every_public_service() -> set[str]:
    files = [
        *FileDescriptorSet.FromString(descriptor()).file,
        *map(file_of, (health_pb2, reflection_pb2, open_inference_pb2)),
    ]
    methods = {
        f"/{file.package}.{service.name}/{method.name}"
        for file in files
        for service in file.service
        for method in service.method
    }
    return methods | {m.replace(".v1alpha.", ".v1.") for m in methods}


def file_of(module: Any) -> FileDescriptorProto:
    found = FileDescriptorSet()
    module.DESCRIPTOR.CopyToProto(found.file.add())
    return found.file[0]


def test_every_method_has_one_scope() -> None:
    assert SCOPE_OF.keys() == methods_of_every_public_service()


def test_only_what_reads_is_view_and_what_asks_is_not_more() -> None:
    reads = ("Get", "List", "Watch")
    for method, scope in SCOPE_OF.items():
        name = method.rpartition("/")[2]
        if scope is Scope.VIEW:
            assert name.startswith(reads), method
        elif scope is not Scope.PREDICT:
            assert not name.startswith(reads), method


@pytest.mark.parametrize("fleet", [GUARDED, SPLIT, UNARY])
@pytest.mark.parametrize("open_predict", [False, True])
def test_every_route_to_a_service_asks_for_a_scope(fleet: MeshTopology, open_predict: bool) -> None:
    assert GUARDED.access is not None
    topology = replace(
        fleet,
        access=replace(GUARDED.access, open_predict=open_predict),
        partly_served=(("films", frozenset()), ("songs", frozenset({Address("127.0.0.1", 1001)}))),
    )
    (host,) = build_snapshot(topology, TOKENS).routes[0].message().virtual_hosts
    asking = [route for route in host.routes if route.route and not route.route.cluster_header]
    assert len(asking) > 15
    for route in asking:
        check = route.typed_per_filter_config[names.SCOPE_CHECK].unpack()
        assert isinstance(check, RbacPerRoute), route.name
        assert check.rbac is not None
        assert check.rbac.rules is not None
        assert check.rbac.rules.action is RbacAction.DENY
        policies = check.rbac.rules.policies
        assert any(name.startswith("scope-") for name in policies), route.name
        nobody = any(name.startswith("nobody") for name in policies)
        only_predict = not any(
            name.startswith("scope-") and name != "scope-predict" for name in policies
        )
        assert nobody != (open_predict and only_predict), route.name


def test_keys_and_revoked_tokens_change_nothing_but_their_filter() -> None:
    before = build_snapshot(GUARDED, TOKENS)
    after = build_snapshot(GUARDED, replace(TOKENS, revoked=frozenset({"a"})))
    assert before.listeners[0] is after.listeners[0]
    assert before.routes[0] is after.routes[0]
    assert before.clusters is after.clusters
    changed = [
        new.name
        for old, new in zip(before.extensions, after.extensions, strict=True)
        if bytes(old) != bytes(new)
    ]
    assert changed == [names.REVOKED]


def test_a_mesh_that_asks_for_tokens_needs_keys() -> None:
    with pytest.raises(InconsistentSnapshot, match="extensions are missing"):
        build_snapshot(GUARDED)
