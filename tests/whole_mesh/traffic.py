"""Traffic on the model `reviews` in which one failed request fails the test."""

import asyncio
import csv
import itertools
from collections import Counter

from grpc import aio

from mesh.client import AsyncMeshClient
from tests.whole_mesh.running_mesh import ROOT

CLIENTS = 16
with (ROOT / "mesh_cli" / "sample_data" / "reviews_test.csv").open(newline="") as file:
    TEXTS = [row["text"] for row in csv.DictReader(file)]


class Traffic:
    """Clients that call without a pause and without retries, each on its own channel.

    `answers` counts the answers of each replica.
    """

    def __init__(self, address: str, clients: int = CLIENTS) -> None:
        self._clients = clients
        self.answers: Counter[str] = Counter()
        self._address = address
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send requests until `stop`. Raises the error of the first request that fails."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._ask())

    def stop(self) -> None:
        """Let `run` return after the requests under way."""
        self._stop.set()

    async def answered_by(self, *replicas: str) -> None:
        """Wait until each of these replicas has answered a request from now on."""
        before = self.answers.copy()
        async with asyncio.timeout(60):
            while any(self.answers[name] == before[name] for name in replicas):
                await asyncio.sleep(0.05)

    async def go_on(self) -> Counter[str]:
        """Wait for ten more answers a client on average; return them by replica."""
        before = self.answers.copy()
        async with asyncio.timeout(60):
            while self.answers.total() < before.total() + 10 * self._clients:
                await asyncio.sleep(0.05)
        return self.answers - before

    async def _ask(self) -> None:
        async with AsyncMeshClient(channel=aio.insecure_channel(self._address)) as client:
            for text in itertools.cycle(TEXTS):
                if self._stop.is_set():
                    return
                answer = await client.predict("reviews", text)
                self.answers[answer.replica] += 1
