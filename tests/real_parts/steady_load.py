"""Clients that call without a pause: `async with under_load(address, model) as load: …`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.waiting import until

CLIENTS = 16


class Load:
    """The calls of all clients: `versions` that answered, in the order of sending, and `failures`.

    The version of a call that is under way, or has failed, is empty.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.versions: list[str] = []
        self.failures: list[str] = []

    async def client(self, stub: Any, stop: asyncio.Event) -> None:
        """Send one call after the other until `stop`."""
        request = predict_pb2.PredictRequest(model=self.model, texts=["a"])
        while not stop.is_set():
            number = len(self.versions)
            self.versions.append("")
            try:
                self.versions[number] = (await stub.Predict(request, timeout=10)).model.version
            except aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")

    async def more(self, calls: int = 200) -> None:
        """Wait until the clients have sent `calls` more calls."""
        target = len(self.versions) + calls
        await until(lambda: len(self.versions) >= target)


@asynccontextmanager
async def under_load(address: str, model: str, count: int = CLIENTS) -> AsyncIterator[Load]:
    """Run `count` clients; at least 200 calls are sent before the block and 200 after it."""
    load, stop = Load(model), asyncio.Event()
    async with aio.insecure_channel(address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        clients = [asyncio.create_task(load.client(stub, stop)) for _ in range(count)]
        await load.more()
        yield load
        await load.more()
        stop.set()
        await asyncio.gather(*clients)
