"""Clients that call a mesh without a pause and note every call that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.envoy import RunningEnvoy
from tests.real_parts.waiting import until

CLIENTS = 8
# A pause between two calls of a client, so that a small machine has time for the abuse too.
PAUSE_S = 0.005


@dataclass
class HonestClients:
    """What the clients have seen."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)

    async def more(self, calls: int = 50) -> None:
        """Wait until `calls` more calls are answered or have failed."""
        target = self.answered + len(self.failures) + calls
        await until(lambda: self.answered + len(self.failures) >= target)


@asynccontextmanager
async def honest_clients(
    envoy: RunningEnvoy, model: str = "reviews"
) -> AsyncIterator[HonestClients]:
    """Half of the clients speak gRPC and half JSON. Raises AssertionError if any call fails."""
    seen, stop = HonestClients(), asyncio.Event()
    async with (
        aio.insecure_channel(envoy.address) as channel,
        httpx.AsyncClient(base_url=envoy.url, timeout=20) as http,
    ):
        tasks = [
            asyncio.create_task(one(seen, stop, model))
            for one in (_grpc(channel), _json(http))
            for _ in range(CLIENTS // 2)
        ]
        try:
            await seen.more()
            yield seen
            await seen.more()
        finally:
            stop.set()
            await asyncio.gather(*tasks)
    assert not seen.failures, seen.failures[:5]


def _grpc(channel: aio.Channel):  # type: ignore[no-untyped-def]
    stub = predict_pb2_grpc.PredictServiceStub(channel)

    async def client(seen: HonestClients, stop: asyncio.Event, model: str) -> None:
        request = predict_pb2.PredictRequest(model=model, texts=["a"])
        while not stop.is_set():
            try:
                await stub.Predict(request, timeout=10)
                seen.answered += 1
            except aio.AioRpcError as error:
                seen.failures.append(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(PAUSE_S)

    return client


def _json(http: httpx.AsyncClient):  # type: ignore[no-untyped-def]
    async def client(seen: HonestClients, stop: asyncio.Event, model: str) -> None:
        while not stop.is_set():
            try:
                answer = await http.post(f"/v1/models/{model}:predict", json={"texts": ["a"]})
                answer.raise_for_status()
                seen.answered += 1
            except httpx.HTTPError as error:
                seen.failures.append(repr(error))
            await asyncio.sleep(PAUSE_S)

    return client
