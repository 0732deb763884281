"""Fault: the bridge is killed at a random await, with its connections; PostgreSQL ends sessions,
the one that listens included; a second bridge runs beside it; Airflow cuts connections before or
after it made the run, fails, logs out, stalls. All the while rows come, change and go.

Invariant: every committed row is in exactly one sealed batch, and every batch has exactly one run.

A run is planned by its seed, which a failure names; CHAOS_SEED=… repeats that plan.
"""

import asyncio
import io
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field

import httpx
import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database, apply_schema
from tests.chaos.batches import LOST, RUNS, memberships, settled
from tests.chaos.conftest import Hold
from tests.real_parts.postgres import execute, with_database
from tests.real_parts.trigger_service import query, settings, until
from tests.twins.stub_airflow import Fault, StubAirflow, running_stub_airflow
from trigger_svc.bridge import airflow_http, backoff, batch_lifecycle, bridge
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.bridge.bridge import Bridge
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

FAST_RUNS = 20
FULL_RUNS = 1_000
FULL_AT_ONCE = 4
SETTLE_S = 30.0
STATEMENTS = 20
FAULT_SHARE = 0.4  # of Airflow's answers
SEED = os.environ.get("CHAOS_SEED", "")
MODELS = ("left", "right")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits as ever, shorter: a run has many of them."""
    monkeypatch.setattr(airflow_http, "REQUEST_TIMEOUT_S", 0.25)
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_S", 0.1)
    monkeypatch.setattr(batch_lifecycle, "POLL_S", 0.02)
    monkeypatch.setattr(batch_lifecycle, "LOOK_S", 0.02)
    monkeypatch.setattr(bridge, "LOOK_S", 0.05)
    monkeypatch.setattr(bridge, "BUSY_LOOK_S", 0.05)
    monkeypatch.setattr(bridge, "STANDBY_S", 0.05)
    monkeypatch.setattr(bridge, "RECONNECT_S", 0.02)


@dataclass
class Ledger:
    """What the writer has committed."""

    statements: int = 0
    """Those that the outbox has to have an entry of."""
    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many committed statements wrote the row, by model and id."""
    loose: list[tuple[str, int]] = field(default_factory=list)
    """Rows that may be deleted. The first of each statement stays: rows of a batch that are all
    gone before it is sealed make no batch."""
    gone: set[tuple[str, int]] = field(default_factory=set)


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
    """Up to two bridges, each with connections of its own, as two processes have."""

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
        # Without certificates, whose loading would take most of a run's time.
        airflow = HttpAirflow(self._settings, httpx.AsyncHTTPTransport(verify=False))
        running = Bridge(database, airflow, self._settings)
        self._running.append((asyncio.create_task(running.run()), database, airflow))

    async def kill(self) -> None:
        """End the oldest one wherever it is, and cut its connections in the middle of anything."""
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
    """End sessions of one bridge, or a share of all of them; return how many."""
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


def write(url: str, dice: random.Random, ledger: Ledger, pauses: Iterator[float]) -> None:
    """Commit statements of every kind, and roll some back."""
    with closing(psycopg2.connect(url)) as connection:
        for pause in pauses:
            model = dice.choice(MODELS)
            with connection.cursor() as cursor:
                wrote, gone = _statement(cursor, dice, model, ledger)
                cursor.execute("SELECT pg_sleep(%s)", (pause,))  # it may outlast a seal
            if dice.random() < 0.15:
                connection.rollback()
                continue
            connection.commit()
            ledger.statements += bool(wrote)
            ledger.rows.update((model, row) for row in wrote)
            ledger.loose += [(model, row) for row in wrote[1:]]
            ledger.gone.update((model, row) for row in gone)


def _statement(
    cursor: Cursor, dice: random.Random, model: str, ledger: Ledger
) -> tuple[list[int], list[int]]:
    """Run one statement; return the ids that it wrote, the anchor first, and those it deleted."""
    kind = dice.choice(("insert", "insert", "insert", "many", "copy", "update", "delete"))
    known = [row for name, row in ledger.rows if name == model and (name, row) not in ledger.gone]
    if kind == "update" and known:
        stays = [row for row in known if (model, row) not in ledger.loose]
        chosen = [dice.choice(stays), *dice.sample(known, dice.randint(0, min(5, len(known))))]
        cursor.execute(
            f"UPDATE training.{model} SET text = text || '.' WHERE id = ANY(%s)", (chosen,)
        )
        # Loose they stay; only the anchor has to, and it does.
        return list(dict.fromkeys(chosen)), []
    loose = [row for name, row in ledger.loose if name == model and (name, row) not in ledger.gone]
    if kind == "delete" and loose:
        chosen = dice.sample(loose, dice.randint(1, min(3, len(loose))))
        cursor.execute(f"DELETE FROM training.{model} WHERE id = ANY(%s)", (chosen,))
        return [], chosen
    if kind == "copy":
        rows = io.StringIO("".join(f"copied {n}\ta\n" for n in range(dice.choice((5, 40)))))
        cursor.copy_expert(f"COPY training.{model} (text, label) FROM STDIN", rows)
        cursor.execute(
            f"SELECT id FROM training.{model} WHERE xmin = pg_current_xact_id()::xid ORDER BY id"
        )
        return [row[0] for row in cursor.fetchall()], []
    count = dice.choice((5, 40)) if kind == "many" else 1
    cursor.execute(
        f"INSERT INTO training.{model} (text, label)"
        " SELECT 'text ' || n, 'a' FROM generate_series(1, %s) AS n RETURNING id",
        (count,),
    )
    return [row[0] for row in cursor.fetchall()], []


async def prepare(url: str) -> None:
    """Make the tables."""
    database = Database(url, "prepare", 1)
    await apply_schema(database, "trigger", SCHEMA)
    for model in MODELS:
        await database.run(lambda cursor, model=model: cursor.execute(model_table(model)))  # type: ignore[misc]
        query(url, "INSERT INTO mesh.models (name) VALUES (%s)", model)
    await database.close()


async def one_run(url: str, seed: int, totals: Totals) -> None:
    """One plan of faults on the prepared, otherwise empty database `url`."""
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
        with suppress(TimeoutError):  # what has not settled by then shows in the check
            await until(lambda: asyncio.to_thread(settled, url), SETTLE_S)
    check(url, seed, ledger, stub, totals)


def check(url: str, seed: int, ledger: Ledger, stub: StubAirflow, totals: Totals) -> None:
    """Compare what was committed with the batches, and the batches with the runs."""
    batches = query(
        url,
        "SELECT id, model, number, statements, state FROM mesh.batches ORDER BY model, number",
    )
    found = memberships(url)
    sealed = sum(statements for _, _, _, statements, _ in batches)
    lost = [row for row, writes in ledger.rows.items() if not found[row]]
    doubled = [row for row, count in found.items() if count > ledger.rows[row]]
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


async def many_runs(urls: list[str], seeds: list[int], hold: Hold) -> None:
    """Make the runs, on each database one after another."""
    totals, waiting = Totals(), iter(seeds)

    async def on(url: str) -> None:
        await prepare(url)
        for seed in waiting:
            await one_run(url, seed, totals)

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(on(url))
    print(f"seeds {seeds[0]} to {seeds[-1]}: {totals}")
    said = (
        f"{totals.runs} runs, {totals.kills} kills, {totals.ended_sessions} sessions ended,"
        f" {totals.airflow_faults} faults of Airflow; {totals.rows} rows by {totals.statements}"
        f" statements: {len(totals.lost)} lost, {len(totals.doubled)} doubled"
    )
    hold(LOST, not totals.lost and not totals.doubled, said + _first(totals.lost + totals.doubled))
    said = f"{totals.batches} batches, {totals.repeats} posts repeated"
    hold(RUNS, not totals.wrong_runs, said + _first(totals.wrong_runs))


def _first(problems: list[str]) -> str:
    return f"; {problems[0]}" if problems else ""


async def test_randomised_faults_lose_and_double_nothing(postgres_url: str, hold: Hold) -> None:
    seeds = [int(SEED)] * FAST_RUNS if SEED else list(range(1, FAST_RUNS + 1))
    await many_runs([postgres_url], seeds, hold)


@pytest.mark.chaos_full
async def test_a_thousand_fault_runs_lose_and_double_nothing(
    postgres_server: str, hold: Hold
) -> None:
    names = [f"chaos_{number}" for number in range(FULL_AT_ONCE)]
    first = int(SEED or 1_000)
    try:
        for name in names:
            execute(postgres_server, f"CREATE DATABASE {name}")
        urls = [with_database(postgres_server, name) for name in names]
        await many_runs(urls, list(range(first, first + FULL_RUNS)), hold)
    finally:
        for name in names:
            execute(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
