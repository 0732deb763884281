"""A part of the mesh that hangs for 30 seconds in the middle of a turn of the loop, then goes on.

Fault: SIGSTOP, and SIGCONT 30 s later, to all processes of the part, while 64 clients call.
Invariants: no Predict fails: calls that the stopped replica held are answered by another replica;
the turn completes by itself within 60 s more than an undisturbed turn takes after the part goes
on, as one batch, one job and one version.
"""

import asyncio
import signal
from pathlib import Path

import psutil
import pytest

from tests.chaos.conftest import Hold
from tests.whole_mesh.clients import Clients
from tests.whole_mesh.parts import PartsOf
from tests.whole_mesh.running_mesh import Mesh
from tests.whole_mesh.turns import COMPLETES_S, Undisturbed, begin

pytestmark = pytest.mark.chaos_full

STOPPED_S = 30.0


@pytest.mark.parametrize("part", ["replica-1", "trigger", "postgres"])
async def test_turn_completes(
    mesh: Mesh, parts: PartsOf, served: Undisturbed, folder: Path, hold: Hold, part: str
) -> None:
    before = parts.pids()
    async with Clients(mesh.address, served.model) as clients:
        turn = await begin(mesh, parts.database_url, folder)
        await turn.reached("training")
        clients.reset()
        parent = psutil.Process(parts.pid(part))
        stopped = [parent, *parent.children(recursive=True)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        for process in stopped:
            process.send_signal(signal.SIGCONT)
        ended_s = await turn.ended(mesh.address)
        seen, slowest_s = clients.seen, clients.slowest_s
        failed = clients.failed.total()
    story = await asyncio.to_thread(turn.story)
    print(f"{part} stopped: turn {ended_s:.1f} s later, {seen}, {story}")
    restarted = [name for name, pid in parts.pids().items() if pid != before[name]]
    hold("0 failed Predicts", failed == 0, seen)
    hold("no Predict waits until the part goes on", slowest_s < STOPPED_S / 2, seen)
    hold(
        "the turn completes by itself",
        ended_s <= COMPLETES_S + served.turn_s,
        f"version answers {ended_s:.1f} s after the part went on",
    )
    hold(
        "one batch, one job, one version",
        (story["batches"], story["jobs"]) == (1, 1) and bool(story["version"]),
        f"{story}",
    )
    hold("no other part restarts", not restarted, f"restarted: {restarted or 'none'}")
