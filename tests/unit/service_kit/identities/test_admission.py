"""The table of who may call which service knows every service that there is."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from control_plane.xds.stream.server import SERVICE as DISCOVERY
from inference import open_inference_pb2
from mesh.v1 import data_pb2, model_rows_pb2, predict_pb2, reload_pb2, replica_pb2, train_pb2
from service_kit.errors import PermissionDenied
from service_kit.identities.admission import ADMITTED, Admission
from service_kit.identities.names import CONTROL_PLANE, ENVOY, INFERENCE, PARTS, TRIGGER
from tests.whole_mesh.running_mesh import ROOT

# Messages of every file with services; another file is found by the test below.
FILES = (data_pb2, model_rows_pb2, predict_pb2, reload_pb2, replica_pb2, train_pb2)
OTHERS = (open_inference_pb2, health_pb2, reflection_pb2)


def services() -> Iterator[str]:
    for module in (*FILES, *OTHERS):
        yield from (service.full_name for service in module.DESCRIPTOR.services_by_name.values())
    yield DISCOVERY
    # Under this name Envoy asks for the same messages.
    yield "grpc.reflection.v1.ServerReflection"


def test_every_service_of_the_contract_has_a_row_and_no_row_is_too_many() -> None:
    contract = FileDescriptorSet.FromString((ROOT / "protos/released.binpb").read_bytes())
    declared = {
        f"{file.package}.{service.name}"
        for file in contract.file
        for service in file.service
        if file.package.startswith("mesh.")
    }
    proto_files = {path.stem for path in (ROOT / "protos/mesh/v1").glob("*.proto")
                   if "\nservice " in path.read_text()}  # fmt: skip
    assert proto_files == {module.__name__.rpartition(".")[2].removesuffix("_pb2")
                           for module in FILES}  # fmt: skip
    assert declared <= set(services())
    assert set(services()) == set(ADMITTED)
    assert descriptor_pool.Default() is not None


def test_every_row_names_parts() -> None:
    for service, parts in ADMITTED.items():
        assert parts, service
        assert parts <= set(PARTS), service


def test_the_control_plane_alone_steers_replicas_and_envoy_alone_is_configured() -> None:
    assert ADMITTED["mesh.v1.ReplicaService"] == {CONTROL_PLANE}
    assert ADMITTED[DISCOVERY] == {ENVOY}


class Peer:
    """The context of a call by a peer with these URIs in its certificate."""

    def __init__(self, *uris: str) -> None:
        self._uris = [uri.encode() for uri in uris]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"peer_uri": self._uris} if self._uris else {}


def answer(request: str, context: Any) -> str:
    return f"answer to {request}"


@pytest.mark.parametrize(
    ("own", "method", "caller", "admitted"),
    [
        (INFERENCE, "/mesh.v1.ReplicaService/Prepare", CONTROL_PLANE, True),
        (INFERENCE, "/mesh.v1.ReplicaService/Prepare", INFERENCE, False),
        (INFERENCE, "/grpc.health.v1.Health/Check", INFERENCE, True),
        (INFERENCE, "/grpc.health.v1.Health/Check", TRIGGER, False),
        (INFERENCE, "/mesh.v1.NewService/Call", CONTROL_PLANE, False),
        (INFERENCE, "/x/mesh.v1.ReplicaService/Prepare", CONTROL_PLANE, False),
    ],
)
def test_who_is_admitted(own: str, method: str, caller: str, admitted: bool) -> None:
    guarded = Admission(own).guarded(method, answer)
    peer = Peer(f"spiffe://champion-mesh/{caller}")
    if admitted:
        assert guarded("it", peer) == "answer to it"
        return
    with pytest.raises(PermissionDenied, match=f"champion-mesh/{caller} may not call {method}"):
        guarded("it", peer)


def test_a_peer_without_a_name_of_this_mesh_is_told_so() -> None:
    guarded = Admission(INFERENCE).guarded("/mesh.v1.ReplicaService/Prepare", answer)
    for peer in (Peer(), Peer("spiffe://other/envoy"), Peer(*2 * ["spiffe://champion-mesh/envoy"])):
        with pytest.raises(PermissionDenied, match="a peer without a name of this mesh"):
            guarded("it", peer)
