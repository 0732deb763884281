"""The cost of the triggers for an INSERT, and how soon a run follows: `python -m bench.inserts`

PostgreSQL with its own durability, the trigger service in a process, and a stub with the answers of
Airflow's REST API. `pgbench` writes single rows, each in its own transaction, into a table with the
triggers and into one without, in alternating rounds.
"""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.kit.triggered_database import (
    NOWHERE,
    TEXT,
    Inserts,
    TriggeredDatabase,
    pgbench,
    running_database,
)
from bench.limit import Save
from trigger_svc.bridge.airflow import Run
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.settings import TriggerSettings

# Concurrent writers, and the share of the throughput without triggers that is wanted with them.
WRITERS = {1: 0.70, 8: 0.65}
ROWS = 25_000
MINUTE_S = 60.0
# Models that take turns in the inserts whose run is waited for: each has one run at a time.
PROMPT_MODELS = 20

console = Console()


def throughput(
    database: TriggeredDatabase, rounds: int, seconds: int
) -> dict[tuple[str, int], list[Inserts]]:
    """Rounds by table and number of writers; each table begins every second round."""
    inserts: dict[tuple[str, int], list[Inserts]] = defaultdict(list)
    for number in range(rounds):
        for writers in WRITERS:
            tables = ("plain", "reviews") if number % 2 else ("reviews", "plain")
            for table in tables:
                database.query("TRUNCATE training.plain, training.reviews, mesh.outbox")
                options = ("-c", str(writers), "-T", str(seconds))
                inserts[table, writers].append(pgbench(database, table, *options))
    return inserts


def by_copy(database: TriggeredDatabase) -> int:
    """Copy 25,000 rows by one COPY; return the number of runs that follow."""
    with tempfile.TemporaryFile("w+") as file, database.connection.cursor() as cursor:
        file.writelines(f"{number} {TEXT}\tpositive\n" for number in range(ROWS))
        file.seek(0)
        cursor.copy_expert("COPY training.copied (text, label) FROM STDIN", file)
    database.wait_until(lambda: database.runs("copied") > 0 and database.is_settled("copied"))
    return database.runs("copied")


def in_a_minute(database: TriggeredDatabase) -> int:
    """Insert 25,000 rows one by one in a minute; return the number of runs that follow."""
    rate = str(ROWS / MINUTE_S)
    pgbench(database, "single", "-c", "8", "-t", str(ROWS // 8), "-R", rate)
    database.wait_until(lambda: database.is_settled("single"))
    return database.runs("single")


def prompt(database: TriggeredDatabase, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from each insert's commit to its run, and of each POST of a run alone."""
    posts = asyncio.run(_posts(database, count))
    waits: list[float] = []
    for number in range(count):
        model = f"prompt{number % PROMPT_MODELS}"
        waits.append(_prompt_once(database, model))
    return waits, posts


def _prompt_once(database: TriggeredDatabase, model: str) -> float:
    database.wait_until(lambda: database.is_settled(model))
    before = database.runs(model)
    database.query(f"INSERT INTO training.{model} (text, label) VALUES (%s, 'a')", TEXT)
    committed = time.perf_counter()
    database.wait_until(lambda: database.runs(model) > before)
    return (database.airflow.created_at[-1] - committed) * 1e3


async def _posts(database: TriggeredDatabase, count: int) -> list[float]:
    airflow = HttpAirflow(TriggerSettings(airflow_url=database.airflow.url))
    taken = []
    for number in range(count + 1):
        begin = time.perf_counter()
        await airflow.start_run(Run(f"alone__{number}", {"model": "alone", "rows": 1}))
        taken.append((time.perf_counter() - begin) * 1e3)
    await airflow.close()
    return taken[1:]  # the first one logs in


def _throughput_rows(
    airflow: str, inserts: dict[tuple[str, int], list[Inserts]]
) -> Iterator[tuple[str, ...]]:
    for writers, wanted in WRITERS.items():
        pairs = list(zip(inserts["reviews", writers], inserts["plain", writers], strict=True))
        triggered, plain = (median(pair[side].per_s for pair in pairs) for side in (0, 1))
        p99, plain_p99 = (median(pair[side].p99_ms for pair in pairs) for side in (0, 1))
        yield (
            f"single rows, {writers} {'writer' if writers == 1 else 'writers'}, Airflow {airflow}",
            f"{triggered:,.0f}/s, p99 {p99:.2f} ms",
            f"{plain:,.0f}/s, p99 {plain_p99:.2f} ms",
            f"{triggered / plain:.2f}, p99 {p99 / plain_p99:.2f}",
            f">= {wanted:.2f}, p99 <= 2",
        )


def _prompt_rows(waits: list[float], posts: list[float]) -> Iterator[tuple[str, ...]]:
    for percent, more_ms in ((50, 20), (99, 200)):
        wait, post = np.percentile(waits, percent), np.percentile(posts, percent)
        yield (
            f"commit to accepted run, p{percent}",
            f"{wait:.1f} ms",
            f"POST alone: {post:.1f} ms",
            f"{wait - post:+.1f} ms",
            f"<= +{more_ms} ms",
        )


Rounds = Annotated[int, typer.Option(help="Rounds in which throughput is measured.", min=1)]
Seconds = Annotated[int, typer.Option(help="Seconds of one measurement.", min=1)]
Count = Annotated[int, typer.Option(help="Inserts whose run is waited for.", min=1)]
Minute = Annotated[bool, typer.Option(help="Insert 25,000 rows one by one in a minute.")]


def main(
    rounds: Rounds = 7,
    seconds: Seconds = 5,
    count: Count = 200,
    minute: Minute = True,
    save: Save = True,
) -> None:
    """Measure, print, and keep the figures unless told otherwise."""
    end_as_by_control_c()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name, running_database(Path(name)) as database:
        # The trigger service makes the tables when it starts.
        with (
            console.status("starting the trigger service"),
            database.running_trigger_service(database.airflow.url),
        ):
            for model in ("reviews", "copied", "single"):
                database.add_model(model)
            database.query("CREATE TABLE training.plain (LIKE training.reviews INCLUDING ALL)")
            with console.status("25,000 rows by COPY"):
                rows.append(_runs_row("25,000 rows by COPY", by_copy(database), 1))
            if minute:
                with console.status("25,000 rows one by one in a minute"):
                    rows.append(_runs_row("25,000 inserts in a minute", in_a_minute(database), 3))
        for airflow, url in (("up", database.airflow.url), ("down", NOWHERE)):
            with (
                database.running_trigger_service(url),
                console.status(f"single rows, Airflow {airflow}"),
            ):
                rows += _throughput_rows(airflow, throughput(database, rounds, seconds))
        database.query(
            "UPDATE mesh.batches SET state = 'FAILED' WHERE state IN ('SEALED', 'RUNNING')"
        )
        with (
            database.running_trigger_service(database.airflow.url, seal_quiet_ms=0),
            console.status("commit to run"),
        ):
            for number in range(PROMPT_MODELS):
                database.add_model(f"prompt{number}")
            rows += _prompt_rows(*prompt(database, count))
    section = Section(
        title="What the trigger costs an INSERT, and how soon a run follows",
        command="python -m bench.inserts",
        columns=("measured", "with the trigger", "beside", "ratio or difference", "wanted"),
        rows=tuple(rows),
        notes=(
            f"Medians of {rounds} alternating rounds of {seconds} s with pgbench, prepared, one"
            " row a transaction, beside the same table without triggers; PostgreSQL flushes each"
            " commit to disk, as by default. The trigger service runs on the same cores.",
            "Airflow is a stub with its answers, whose runs have succeeded at the first question.",
        ),
    )
    section.show(console)
    if save:
        record("inserts", section)


def _runs_row(name: str, runs: int, wanted: int) -> tuple[str, ...]:
    return (name, f"{runs} {'run' if runs == 1 else 'runs'}", "", "", f"<= {wanted}")


if __name__ == "__main__":
    typer.run(main)
