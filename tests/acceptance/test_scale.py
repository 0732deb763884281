"""Replicas come and go under traffic, and no request fails."""

import asyncio
from collections import Counter

import pytest
from grpc import aio

from mesh.client import AsyncMeshClient
from tests.acceptance.running_mesh import Mesh

CLIENTS = 16
FOUR = ["replica-1", "replica-2", "replica-3", "replica-4"]


class Traffic:
    """Clients that ask without a pause and without tries of their own, each on its own channel."""

    def __init__(self, address: str) -> None:
        self.answers: Counter[str] = Counter()
        self._address = address
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Ask until `stop`. Raises what the first failed request raised."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._ask())

    def stop(self) -> None:
        self._stop.set()

    async def answered_by(self, *replicas: str) -> None:
        """Return when each of these has answered from now on."""
        before = self.answers.copy()
        async with asyncio.timeout(60):
            while any(self.answers[name] == before[name] for name in replicas):
                await asyncio.sleep(0.05)

    async def go_on(self) -> Counter[str]:
        """Let every client ask ten times more on average; return who answered."""
        before = self.answers.copy()
        async with asyncio.timeout(60):
            while self.answers.total() < before.total() + 10 * CLIENTS:
                await asyncio.sleep(0.05)
        return self.answers - before

    async def _ask(self) -> None:
        async with AsyncMeshClient(channel=aio.insecure_channel(self._address)) as client:
            while not self._stop.is_set():
                answer = await client.predict("reviews", "Better than I had dared to hope.")
                self.answers[answer.replica] += 1


async def test_replicas_join_and_leave_under_traffic(mesh: Mesh, reviews: str) -> None:
    traffic = Traffic(mesh.address)
    async with asyncio.TaskGroup() as group:
        # A failed request raises here: 0 may fail.
        group.create_task(traffic.run())
        await traffic.answered_by("replica-1", "replica-2")

        added = await asyncio.to_thread(mesh.json, "scale", "4")
        assert added == {"replicas": FOUR, "added": FOUR[2:], "removed": []}
        await traffic.answered_by(*FOUR)

        removed = await asyncio.to_thread(mesh.json, "scale", "2")
        assert removed["removed"] == ["replica-4", "replica-3"]
        assert set(await traffic.go_on()) <= {"replica-1", "replica-2"}
        traffic.stop()
    print(f"{traffic.answers.total()} requests by {dict(traffic.answers)}, failed: 0")


def test_every_verb_knows_the_scaled_replicas(mesh: Mesh, reviews: str) -> None:
    mesh.run("scale", "3")
    try:
        status = mesh.json("status")
        names = [part["name"] for part in status["parts"] if part["name"].startswith("replica-")]
        assert status["healthy"]
        assert names == FOUR[:3]
        fleet = mesh.json("fleet")["replicas"]
        assert {replica["id"]: replica["eligible"] for replica in fleet} == dict.fromkeys(
            names, True
        )
        assert "serving" in mesh.run("logs", "replica-3").stdout
    finally:
        mesh.run("scale", "2")


@pytest.mark.parametrize("count", ["0", "17"])
def test_the_limits_are_said(mesh: Mesh, count: str) -> None:
    result = mesh.run("scale", count, check=False)
    assert result.returncode == 2
    assert "1 to 16" in result.stderr
