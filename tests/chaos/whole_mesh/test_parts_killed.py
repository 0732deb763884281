"""SIGKILL to any one part of the mesh in the middle of a turn of the loop.

Fault: SIGKILL to the part's own process, at each step of a turn, while 64 clients call.
Invariants: no Predict fails; the turn completes by itself within 60 s more than an undisturbed
turn takes after the part is back, as one batch, one job and one version; no other part restarts.
"""

import signal
import time
from pathlib import Path

import pytest

from tests.chaos.conftest import Hold
from tests.whole_mesh.clients import Clients
from tests.whole_mesh.parts import PartsOf
from tests.whole_mesh.running_mesh import Mesh
from tests.whole_mesh.turns import COMPLETES_S, STEPS, Undisturbed, begin

pytestmark = pytest.mark.chaos_full

KILLED = (
    "replica-1",
    "control-plane",
    "trigger",
    "training",
    "mlflow",
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "postgres",
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("part", KILLED)
async def test_turn_completes(
    mesh: Mesh, parts: PartsOf, served: Undisturbed, folder: Path, hold: Hold, part: str, step: str
) -> None:
    before = parts.pids()
    async with Clients(mesh.address, served.model) as clients:
        turn = await begin(mesh, parts.database_url, folder)
        await turn.reached(step)
        clients.reset()
        killed = parts.signal(part, signal.SIGKILL)
        back_s = await parts.back(part, killed)
        ended_s = await turn.ended(mesh.address)
        seen = clients.seen
        failed = clients.failed.total()
    story = turn.story()
    print(f"{part} at {step}: back {back_s:.1f} s, turn {ended_s:.1f} s later, {seen}, {story}")
    after = parts.pids()
    expected = {part}
    if part == "postgres":
        # The parts of Airflow end when their database is away, and supervisord restarts them.
        expected |= {name for name in after if "airflow" in name}
    restarted = [name for name in after.keys() - expected if after[name] != before[name]]
    hold("0 failed Predicts", failed == 0, seen)
    hold(
        "the turn completes by itself",
        ended_s <= COMPLETES_S + served.turn_s,
        f"part back after {back_s:.1f} s, version answers {ended_s:.1f} s later",
    )
    hold(
        "one batch, one job, one version",
        (story["batches"], story["jobs"]) == (1, 1) and bool(story["version"]),
        f"{story}",
    )
    hold("no other part restarts", not restarted, f"restarted: {restarted or 'none'}")


async def test_envoy_is_back_at_once(
    mesh: Mesh, parts: PartsOf, served: Undisturbed, hold: Hold
) -> None:
    before = parts.pids()
    async with Clients(mesh.address, served.model) as clients:
        await clients.answered_since(time.monotonic())
        killed_at = time.monotonic()
        killed = parts.signal("envoy", signal.SIGKILL)
        answered_s = await clients.answered_since(killed_at)
        await parts.back("envoy", killed)
    after = parts.pids()
    restarted = [name for name, pid in after.items() if pid != before[name] and name != "envoy"]
    print(f"envoy answers {answered_s:.2f} s after the kill; {clients.seen}")
    hold("Envoy is back within 2 s", answered_s <= 2.0, f"answers after {answered_s:.2f} s")
    hold("no other part restarts", not restarted, f"restarted: {restarted or 'none'}")
