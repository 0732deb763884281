"""Envoy's port with TLS: what clients need, what is refused, and a certificate that is replaced."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import pytest
from grpc import aio

from control_plane.xds.listener.listener import HANDSHAKE_S
from mesh.client import AsyncMeshClient, MeshClient
from mesh.errors import Unavailable
from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from tests.integration.tls.conftest import Secured
from tests.real_parts.waiting import until_async

CLIENTS = 8
PREDICT = "/v1/models/reviews:predict"


async def test_every_client_that_trusts_the_authority_is_answered(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncMeshClient(secured.url, ca=str(secured.ca)) as mesh:
        assert (await mesh.predict("reviews", "good")).predictions
    monkeypatch.setenv("MESH_CA", str(secured.ca))
    with MeshClient(secured.url + "/") as mesh:
        assert (await asyncio.to_thread(mesh.predict, "reviews", "good")).predictions
    context = ssl.create_default_context(cafile=str(secured.ca))
    async with httpx.AsyncClient(base_url=secured.url, verify=context) as http:
        answer = await http.post(PREDICT, json={"texts": ["good"]})
        assert answer.status_code == 200, answer.text


async def test_with_an_old_version_of_tls_or_another_authority_nobody_is_answered(
    secured: Secured, tmp_path: Path
) -> None:
    old = ssl.create_default_context(cafile=str(secured.ca))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with httpx.AsyncClient(verify=old, timeout=10) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{secured.url}/healthz")
    other = Authority.in_folder(tmp_path / "other")
    assert other.certificate_pem != secured.ca.read_bytes()
    async with AsyncMeshClient(secured.url, ca=str(tmp_path / "other" / AUTHORITY_FILE)) as mesh:
        with pytest.raises(Unavailable):
            await mesh.predict("reviews", "good", timeout_s=10)


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"])
async def test_ciphers_without_authentication_are_refused(secured: Secured, suite: str) -> None:
    context = secured.trusted
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    async with httpx.AsyncClient(verify=context, timeout=10) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{secured.url}/healthz")


async def test_a_handshake_that_stops_ends_by_itself(secured: Secured) -> None:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = secured.trusted.wrap_bio(received, sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    host, port = secured.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent.read())
    async with asyncio.timeout(3 * HANDSHAKE_S):
        answer = b""
        with suppress(ConnectionResetError):
            while part := await reader.read(65_536):
                answer += part
    assert answer, "Envoy has answered the beginning"
    writer.close()


async def test_certificates_are_replaced_under_load_without_a_failed_request(
    secured: Secured,
) -> None:
    credentials = grpc.ssl_channel_credentials(secured.ca.read_bytes())
    request = predict_pb2.PredictRequest(model="reviews", texts=["good"])
    answered = {"kept": 0, "new": 0}
    done = asyncio.Event()

    async def over_one_connection() -> None:
        async with aio.secure_channel(secured.address, credentials) as channel:
            predict = predict_pb2_grpc.PredictServiceStub(channel)
            while not done.is_set():
                await predict.Predict(request, timeout=30)
                answered["kept"] += 1

    async def over_new_connections() -> None:
        context = ssl.create_default_context(cafile=str(secured.ca))
        while not done.is_set():
            async with httpx.AsyncClient(verify=context, timeout=30) as http:
                answer = await http.post(secured.url + PREDICT, json={"texts": ["good"]})
                assert answer.status_code == 200, answer.text
            answered["new"] += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS // 2):
            clients.create_task(over_one_connection())
            clients.create_task(over_new_connections())
        for _ in range(5):
            serial, begin = await asyncio.to_thread(secured.issue), dict(answered)

            async def is_shown(wanted: int = serial) -> bool:
                return await secured.serial() == wanted

            await until_async(is_shown, 5)

            async def all_go_on(before: dict[str, int] = begin) -> bool:
                return all(answered[kind] >= before[kind] + 20 for kind in answered)

            await until_async(all_go_on)
        done.set()
    pairs = list(secured.folder.glob("pair-*"))
    assert len(pairs) == 2, "only the pair in use and the one before are kept"
