"""Who gets in where the parts have identities: the right part, and nobody else."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest
from grpc import aio

from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    model_rows_pb2,
    model_rows_pb2_grpc,
    predict_pb2,
    predict_pb2_grpc,
    reload_pb2,
    reload_pb2_grpc,
    replica_pb2,
    replica_pb2_grpc,
    train_pb2,
    train_pb2_grpc,
)
from service_kit.certificates.authority import Authority
from service_kit.identities.grpc_tls import named_server
from service_kit.identities.identity import Pems
from service_kit.identities.names import (
    CONTROL_PLANE,
    ENVOY,
    INFERENCE,
    TRAINING,
    TRIGGER,
    server_name,
    spiffe_id,
)
from tests.integration.identities.proven_mesh import MODEL, PATHS, ProvenMesh, proven_mesh
from tests.real_parts.postgres import new_database

AIRFLOW = "airflow"
Call = Callable[[aio.Channel], Any]
_XDS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
TRIES = 50
_NOT_SENT = 'Failed "execute_batch"'
# Of each service a call that whoever may call it gets an answer to; the part that offers the
# service; and who may call it.
CALLS: dict[str, tuple[Call, str, set[str]]] = {
    "replica": (
        lambda to: replica_pb2_grpc.ReplicaServiceStub(to).GetState(
            replica_pb2.GetStateRequest(), timeout=10
        ),
        INFERENCE,
        {CONTROL_PLANE},
    ),
    "predict": (
        lambda to: predict_pb2_grpc.PredictServiceStub(to).Predict(
            predict_pb2.PredictRequest(model=MODEL, texts=["good"]), timeout=10
        ),
        INFERENCE,
        {ENVOY},
    ),
    "xds": (lambda to: _first_of_stream(to), CONTROL_PLANE, {ENVOY}),
    "reload": (
        lambda to: reload_pb2_grpc.ReloadServiceStub(to).GetFleet(
            reload_pb2.GetFleetRequest(), timeout=10
        ),
        CONTROL_PLANE,
        {ENVOY},
    ),
    "train": (
        lambda to: train_pb2_grpc.TrainServiceStub(to).ListTrainings(
            train_pb2.ListTrainingsRequest(model="nobody"), timeout=10
        ),
        TRAINING,
        {ENVOY, CONTROL_PLANE},
    ),
    "data": (
        lambda to: data_pb2_grpc.DataServiceStub(to).ListBatches(
            data_pb2.ListBatchesRequest(), timeout=10
        ),
        TRIGGER,
        {ENVOY},
    ),
    "rows": (
        lambda to: model_rows_pb2_grpc.ModelRowsServiceStub(to).Forget(
            model_rows_pb2.ForgetRequest(model="nobody"), timeout=10
        ),
        TRIGGER,
        {CONTROL_PLANE},
    ),
}


async def said(call: Call, to: aio.Channel) -> str:
    """The name of the status of a call."""
    try:
        await call(to)
    except aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _first_of_stream(to: aio.Channel) -> bytes:
    """Open a stream of Envoy's configuration, and read its first message."""
    for _ in range(TRIES):
        try:
            return await _opened_stream(to)
        except aio.AioRpcError as error:
            # The stream was ended before this client's message was sent. gRPC then tells the
            # failure to send instead of the server's answer, so the server is asked again.
            if _NOT_SENT not in str(error.debug_error_string()):
                raise
    raise AssertionError("the server's answer was never seen")


async def _opened_stream(to: aio.Channel) -> bytes:
    request = DiscoveryRequest(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    method: Any = to.stream_stream(_XDS)
    call = method(iter([bytes(request)]), timeout=10)
    async for message in call:
        call.cancel()
        return bytes(message)
    raise AssertionError("the stream ended without a message")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, mlflow_url: str, postgres_server: str
) -> AsyncIterator[ProvenMesh]:
    folder = tmp_path_factory.mktemp("proven")
    with new_database(postgres_server) as database:
        async with proven_mesh(folder, mlflow_url, database) as running:
            yield running


def secured(to: str, credentials: grpc.ChannelCredentials, part: str) -> aio.Channel:
    return aio.secure_channel(to, credentials, options=[named_server(part)])


def pems_of(folder: Path, part: str) -> Pems:
    """A certificate of another part, from the authority in a folder."""
    authority = Authority.in_folder(folder)
    names = (spiffe_id(part), server_name(part))
    certificate, key = authority.issue(names, 1, for_clients=True)
    return Pems(certificate, key, authority.certificate_pem, part)


@pytest.mark.asyncio(loop_scope="module")
class TestWhoIsAdmitted:
    """One mesh for all of these tests."""

    async def test_clients_of_envoy_are_answered_at_every_door(self, mesh: ProvenMesh) -> None:
        assert (await mesh.predict()).replica == "r1"
        answer = await mesh.http.post(f"/v1/models/{MODEL}:predict", json={"texts": ["good"]})
        assert answer.status_code == 200, answer.text
        body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}
        answer = await mesh.http.post(f"/v2/models/{MODEL}/infer", json=body)
        assert answer.status_code == 200, answer.text
        for path, code in PATHS.items():
            answer = await mesh.http.get(path)
            assert answer.status_code == code, (path, answer.text)

    @pytest.mark.parametrize("name", CALLS)
    async def test_a_service_admits_its_parts_and_refuses_the_others(
        self, mesh: ProvenMesh, name: str
    ) -> None:
        call, part, admitted = CALLS[name]
        for caller in (ENVOY, CONTROL_PLANE, INFERENCE, TRAINING, TRIGGER):
            async with mesh.as_part(caller, to=part) as to:
                if caller in admitted:
                    assert await said(call, to) in ("OK", "NOT_FOUND"), caller
                    continue
                with pytest.raises(aio.AioRpcError) as refused:
                    await call(to)
                assert "PERMISSION_DENIED" in str(refused.value), (caller, refused.value)
                assert f"{spiffe_id(caller)} may not call" in str(refused.value)

    @pytest.mark.parametrize("name", CALLS)
    async def test_a_service_refuses_airflow_and_names_of_other_domains(
        self, mesh: ProvenMesh, name: str
    ) -> None:
        call, part, _ = CALLS[name]
        own = mesh.identities / "authority"
        for uris in (
            ("spiffe://champion-mesh/airflow",),
            ("spiffe://other/control-plane",),
            ("spiffe://champion-mesh/control-plane", "spiffe://champion-mesh/envoy"),
            (),
        ):
            chain, key = Authority.in_folder(own).issue(
                (*uris, "envoy.champion-mesh"), 1, for_clients=True
            )
            trusted = mesh.identity(ENVOY).current().authorities
            credentials = grpc.ssl_channel_credentials(trusted, key, chain)
            async with secured(mesh.parts[part].address, credentials, part) as to:
                with pytest.raises(aio.AioRpcError) as refused:
                    await call(to)
                assert "PERMISSION_DENIED" in str(refused.value), (uris, refused.value)

    @pytest.mark.parametrize("name", CALLS)
    async def test_without_a_certificate_or_with_a_foreign_one_no_connection_is_made(
        self, mesh: ProvenMesh, name: str, tmp_path: Path
    ) -> None:
        call, part, admitted = CALLS[name]
        address, trusted = mesh.parts[part].address, mesh.identity(ENVOY).current().authorities
        foreign = pems_of(tmp_path, min(admitted))
        ended, key = Authority.in_folder(mesh.identities / "authority").issue(
            (spiffe_id(min(admitted)), server_name(min(admitted))), -0.001, for_clients=True
        )
        channels = (
            aio.insecure_channel(address),
            secured(address, grpc.ssl_channel_credentials(trusted), part),
            secured(
                address,
                grpc.ssl_channel_credentials(trusted, foreign.key, foreign.certificate),
                part,
            ),
            secured(address, grpc.ssl_channel_credentials(trusted, key, ended), part),
        )
        for opened in channels:
            async with opened as to:
                with pytest.raises(aio.AioRpcError) as refused:
                    await call(to)
                assert "UNAVAILABLE" in str(refused.value), refused.value

    @pytest.mark.parametrize("door", ["INFERENCE_UNARY_PORT", "INFERENCE_HTTP_PORT"])
    async def test_the_http_doors_of_a_replica_answer_envoy_alone(
        self, mesh: ProvenMesh, door: str, tmp_path: Path
    ) -> None:
        port = int(mesh.parts[INFERENCE].environment[door])
        for part in (ENVOY, CONTROL_PLANE, INFERENCE, AIRFLOW):
            pems = pems_of(mesh.identities / "authority", part)
            answered = await _asked(port, _client(tmp_path / part, pems))
            assert answered is (part == ENVOY), part
        foreign = pems_of(tmp_path / "foreign", ENVOY)
        trusting = Pems(
            foreign.certificate, foreign.key, mesh.identity(ENVOY).current().authorities, ENVOY
        )
        assert not await _asked(port, _client(tmp_path / "stranger", trusting))
        nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nameless.load_verify_locations(cadata=trusting.authorities.decode())
        assert not await _asked(port, nameless)
        assert not await _asked(port, None)

    async def test_a_server_that_is_another_part_gets_no_calls(self, mesh: ProvenMesh) -> None:
        call, part, _ = CALLS["train"]
        pems = mesh.identity(CONTROL_PLANE).current()
        credentials = grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)
        async with secured(mesh.parts[TRIGGER].address, credentials, part) as to:
            with pytest.raises(aio.AioRpcError, match="UNAVAILABLE"):
                await call(to)


def _client(folder: Path, pems: Pems) -> ssl.SSLContext:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chain").write_bytes(pems.certificate)
    (folder / "key").write_bytes(pems.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pems.authorities.decode())
    context.load_cert_chain(folder / "chain", folder / "key")
    return context


async def _asked(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether a request of this peer is answered."""
    name = server_name(INFERENCE) if context else None
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read(8)
    except OSError:
        return False
    writer.close()
    return answer.startswith(b"HTTP/1.1")
