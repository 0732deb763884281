"""Bridges are killed, lose their sessions and meet a faulty Airflow, all at random.

Faults: the bridge is killed at a random await, together with its connections; PostgreSQL ends
sessions, among them the one that listens; a second bridge runs beside the first; Airflow cuts
connections before or after it made the run, fails, logs the bridge out, or stalls. All the while a
writer inserts, changes and deletes rows.

Invariant: every committed row is in exactly one sealed batch, and every batch has exactly one run.

A run is planned by its seed, which a failure names; CHAOS_SEED=… repeats that plan.
"""

import asyncio
import os

import pytest

from tests.chaos.conftest import Hold
from tests.chaos.trigger.batches import LOST, RUNS
from tests.chaos.trigger.faulty_run import Totals, one_run
from tests.chaos.trigger.tables import make_tables
from tests.real_parts.postgres import execute, with_database
from trigger_svc.bridge import airflow_http, backoff, batch_lifecycle, bridge

FAST_RUNS = 20
FULL_RUNS = 1_000
FULL_AT_ONCE = 4
SEED = os.environ.get("CHAOS_SEED", "")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the bridge's waits, of which a run has many."""
    monkeypatch.setattr(airflow_http, "REQUEST_TIMEOUT_S", 0.25)
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_S", 0.1)
    monkeypatch.setattr(batch_lifecycle, "POLL_S", 0.02)
    monkeypatch.setattr(batch_lifecycle, "LOOK_S", 0.02)
    monkeypatch.setattr(bridge, "LOOK_S", 0.05)
    monkeypatch.setattr(bridge, "BUSY_LOOK_S", 0.05)
    monkeypatch.setattr(bridge, "STANDBY_S", 0.05)
    monkeypatch.setattr(bridge, "RECONNECT_S", 0.02)


async def many_runs(urls: list[str], seeds: list[int], hold: Hold) -> None:
    """Make one run for each seed; on each database one run after another."""
    totals, waiting = Totals(), iter(seeds)

    async def on(url: str) -> None:
        await make_tables(url)
        for seed in waiting:
            await one_run(url, seed, totals)

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(on(url))
    print(f"seeds {seeds[0]} to {seeds[-1]}: {totals}")
    assert min(totals.kills, totals.ended_sessions, totals.airflow_faults, totals.batches) > 0
    seen = (
        f"{totals.runs} runs, {totals.kills} kills, {totals.ended_sessions} sessions ended,"
        f" {totals.airflow_faults} faults of Airflow; {totals.rows} rows by {totals.statements}"
        f" statements: {len(totals.lost)} lost, {len(totals.doubled)} doubled"
    )
    hold(LOST, not totals.lost and not totals.doubled, seen + _first(totals.lost + totals.doubled))
    seen = f"{totals.batches} batches, {totals.repeats} posts repeated"
    hold(RUNS, not totals.wrong_runs, seen + _first(totals.wrong_runs))


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
