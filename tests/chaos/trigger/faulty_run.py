"""One run of bridges under faults that a seed plans, and the comparison at its end."""

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import httpx

from service_kit.database import Database
from tests.chaos.trigger.batches import memberships, settled
from tests.chaos.trigger.random_writer import Ledger, write
from tests.real_parts.trigger_service import query, settings, until
from tests.twins.stub_airflow import Fault, StubAirflow, running_stub_airflow
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.bridge.bridge import Bridge

SETTLE_S = 30.0
STATEMENTS = 20
FAULT_SHARE = 0.4  # of Airflow's answers


@dataclass
class Totals:
    """Sums over the runs."""

    runs: int = 0
    statements: int = 0
    rows: int = 0
    batches: int = 0
    kills: int = 0
    ended_sessions: int = 0
    airflow_faults: int = 0
    repeats: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong_runs: list[str] = field(default_factory=list)


class Bridges:
    """One or two bridges, each with connections of its own, like two processes."""

    def __init__(self, url: str, airflow_url: str, dice: random.Random) -> None:
        self._settings = settings(
            url,
            airflow_url=airflow_url,
            seal_rows=dice.choice((3, 10, 50)),
            seal_quiet_ms=dice.choice((0, 10, 40)),
            seal_age_ms=150,
        )
        self._running: list[tuple[asyncio.Task[None], Database, HttpAirflow]] = []
        self._number = 0

    def start(self) -> None:
        self._number += 1
        database = Database(self._settings.database_url, f"mesh-chaos-{self._number}", 2)
        # Loading certificates would take most of the time of a run, so there are none.
        airflow = HttpAirflow(self._settings, httpx.AsyncHTTPTransport(verify=False))
        running = Bridge(database, airflow, self._settings)
        self._running.append((asyncio.create_task(running.run()), database, airflow))

    async def kill(self) -> None:
        """End the oldest bridge, at whatever await it is, and its PostgreSQL sessions with it."""
        task, database, airflow = self._running.pop(0)
        task.cancel()
        await asyncio.to_thread(end_sessions, self._settings.database_url, database)
        with suppress(asyncio.CancelledError):
            await task
        await airflow.close()
        await database.close()

    async def close(self) -> None:
        while self._running:
            await self.kill()


def end_sessions(url: str, database: Database | None, share: float = 1.0) -> int:
    """End a share of the sessions of one bridge, or of all bridges for None; return how many."""
    name = "mesh-%" if database is None else database.application_name
    return len(
        query(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE %s"
            " AND random() < %s",
            *(name, share),
        )
    )


async def one_run(url: str, seed: int, totals: Totals) -> None:
    """Make the run that `seed` plans on the database `url`, and add its result to `totals`."""
    dice = random.Random(seed)
    query(
        url,
        "TRUNCATE mesh.batches, mesh.outbox, mesh.removals, training.left, training.right;"
        " UPDATE mesh.models SET next_batch = 1",
    )
    ledger, calm = Ledger(), False
    faults = random.Random(dice.random())

    def fault() -> Fault | None:
        if calm or faults.random() > FAULT_SHARE:
            return None
        return faults.choice(tuple(Fault))

    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(
            running_stub_airflow(StubAirflow(fault, polls=dice.choice((0, 1, 3))))
        )
        bridges = Bridges(url, stub.url, dice)
        stack.push_async_callback(bridges.close)
        bridges.start()
        pauses = iter([dice.random() ** 3 * 0.05 for _ in range(STATEMENTS)])
        writing = asyncio.create_task(
            asyncio.to_thread(write, url, random.Random(dice.random()), ledger, pauses)
        )
        while not writing.done():
            await asyncio.sleep(dice.random() * 0.05)
            choice = dice.choice(("kill", "kill after another began", "sessions"))
            if choice == "sessions":
                ended = await asyncio.to_thread(end_sessions, url, None, dice.choice((0.3, 1.0)))
                totals.ended_sessions += ended
                continue
            totals.kills += 1
            if choice == "kill after another began":
                bridges.start()
                await asyncio.sleep(dice.random() * 0.05)
                await bridges.kill()
            else:
                await bridges.kill()
                bridges.start()
        await writing
        calm = True
        with suppress(TimeoutError):  # `check` reports the batches that have not settled by then
            await until(lambda: asyncio.to_thread(settled, url), SETTLE_S)
    check(url, seed, ledger, stub, totals)


def check(url: str, seed: int, ledger: Ledger, stub: StubAirflow, totals: Totals) -> None:
    """Compare what was committed with the batches, and the batches with the runs."""
    batches = query(
        url,
        "SELECT id, model, number, statements, state FROM mesh.batches ORDER BY model, number",
    )
    batches_of = memberships(url)
    sealed = sum(statements for _, _, _, statements, _ in batches)
    lost = [row for row, writes in ledger.rows.items() if not batches_of[row]]
    doubled = [row for row, count in batches_of.items() if count > ledger.named[row]]
    if lost or sealed < ledger.statements:
        totals.lost.append(f"seed {seed}: {lost}, {sealed} of {ledger.statements} statements")
    if doubled or sealed > ledger.statements:
        totals.doubled.append(f"seed {seed}: {doubled}, {sealed} of {ledger.statements} statements")
    ids = sorted(name for name, _, _, _, _ in batches)
    states = {state for _, _, _, _, state in batches}
    if sorted(stub.created) != ids or states - {"SUCCEEDED"}:
        totals.wrong_runs.append(f"seed {seed}: batches {ids}, {states}, runs {stub.created}")
    totals.runs += 1
    totals.statements += ledger.statements
    totals.rows += len(ledger.rows)
    totals.batches += len(batches)
    totals.airflow_faults += stub.faults
    totals.repeats += stub.repeats
