"""Parts of the running mesh, killed at each step of one turn of the loop."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.whole_mesh.clients import Clients
from tests.whole_mesh.parts import PartsOf
from tests.whole_mesh.running_mesh import Mesh
from tests.whole_mesh.turns import begin

# The parts that are killed at each step: those that work at that step, or a replica.
KILLED = {
    "sealed": ("trigger", "replica-1"),
    "training": ("training", "airflow-scheduler"),
    "reloading": ("control-plane", "replica-2"),
}


@pytest.mark.chaos_full
async def test_the_turn_completes_and_no_request_fails(
    mesh: Mesh, reviews: str, tmp_path: Path
) -> None:
    parts = PartsOf(mesh)
    async with Clients(mesh.address, reviews) as clients:
        turn = await begin(mesh, parts.database_url, tmp_path)
        killed: dict[str, int] = {}
        for step, names in KILLED.items():
            await turn.reached(step)
            # The parts killed before have to be back, so that one replica is there at any time.
            await _all_back(parts, killed)
            killed = {name: parts.signal(name, signal.SIGKILL) for name in names}
        await turn.ended(mesh.address)
        await _all_back(parts, killed)
        assert clients.failed.total() == 0, clients.seen
    story = await asyncio.to_thread(turn.story)
    assert (story["batches"], story["jobs"], story["version"]) == (1, 1, "1"), story
    print(clients.seen)


async def _all_back(parts: PartsOf, killed: dict[str, int]) -> None:
    for name, pid in killed.items():
        await parts.back(name, pid)
