"""What the trigger costs those who insert, and how soon a run follows: `python -m bench.inserts`

A PostgreSQL of its own with PostgreSQL's own durability, the trigger service as a process of its
own, and a stub with the answers of Airflow's REST API. `pgbench` writes single rows, each in a
transaction of its own, into a table with the triggers and into one without, in alternating rounds.
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import psycopg2
import typer
from psycopg2.extensions import connection as Connection
from rich.console import Console

from bench.kit.processes import ServerProcess, end_as_by_control_c
from bench.kit.results import Section, record
from bench.limit import Save
from tests.real_parts.postgres import BINARIES, SETTINGS, free_port, running_postgres
from tests.twins.stub_airflow import StubAirflow, running_stub_airflow
from trigger_svc.bridge.airflow import Run
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.database.queries import model_table
from trigger_svc.settings import TriggerSettings

WRITERS = {1: 0.70, 8: 0.65}  # and the share of the throughput without triggers that is wanted
TEXT = "Better than I had dared to hope, and over before I wanted it to be."
ROWS = 25_000
MINUTE_S = 60.0
NOWHERE = "http://127.0.0.1:1"
PROMPT_MODELS = 20  # a model has one run at a time: the inserts take turns
WAIT_S = 120.0
_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")

console = Console()


@dataclass(frozen=True)
class Inserts:
    """One round of pgbench: rows a second, and milliseconds of one insert."""

    per_s: float
    p99_ms: float


class World:
    """The database and the stub; the service comes and goes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.airflow = StubAirflow(polls=0)
        self.connection: Connection = psycopg2.connect(url)
        self.connection.autocommit = True

    def query(self, sql: str, *values: object) -> list[tuple[int, ...]]:
        """Run one statement."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def make(self, model: str) -> None:
        """A model with its table and triggers."""
        self.query("INSERT INTO mesh.models (name, registered) VALUES (%s, true)", model)
        with self.connection.cursor() as cursor:
            cursor.execute(model_table(model))

    def runs(self, model: str) -> int:
        """Runs that the stub made for a model."""
        return sum(name.startswith(f"retrain__{model}__") for name in tuple(self.airflow.created))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()`. Raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("what the bench waits for does not happen")
            time.sleep(0.01)

    def settled(self, models: str = "%") -> bool:
        """Nothing waits, nothing runs."""
        ((waiting,),) = self.query(
            "SELECT (SELECT count(*) FROM mesh.outbox WHERE model LIKE %s)"
            " + (SELECT count(*) FROM mesh.batches"
            "    WHERE model LIKE %s AND state IN ('SEALED', 'RUNNING'))",
            *(models, models),
        )
        return not waiting

    @contextmanager
    def bridge(self, airflow_url: str, **values: int) -> Iterator[None]:
        """Run the trigger service as a process of its own."""
        port = free_port()
        settings = {"database_url": self.url, "airflow_url": airflow_url, "port": port, **values}
        settings["mlflow_url"] = NOWHERE
        environment = {f"TRIGGER_{key.upper()}": str(value) for key, value in settings.items()}
        command = [sys.executable, "-m", "trigger_svc.main"]
        with ServerProcess(
            "trigger service", command, self._leads, self.folder / "trigger.log", environment
        ):
            yield

    def _leads(self) -> bool:
        return bool(
            self.query(
                "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE locktype = 'advisory' AND application_name = 'mesh-bridge' LIMIT 1"
            )
        )


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start PostgreSQL and the stub."""
    durable = {name: value for name, value in SETTINGS.items() if name not in _DURABLE}
    (folder / "postgres").mkdir()
    with running_postgres(folder / "postgres", settings=durable) as url:
        made = World(url, folder)
        with closing(made.connection), _in_a_thread(made.airflow):
            yield made


@contextmanager
def _in_a_thread(airflow: StubAirflow) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with running_stub_airflow(airflow):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def pgbench(world: World, table: str, *options: str) -> Inserts:
    """Insert single rows into training.`table`."""
    with tempfile.TemporaryDirectory(dir=world.folder) as name:
        folder = Path(name)
        script = folder / "insert.sql"
        script.write_text(
            f"INSERT INTO training.{table} (text, label) VALUES ('{TEXT}', 'positive');\n"
        )
        subprocess.run(
            [BINARIES / "pgbench", "-n", "-M", "prepared", "-f", script, "-l", *options, world.url],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        lines = [line.split() for log in folder.glob("pgbench_log.*") for line in log.open()]
    taken_ms = np.array([int(line[2]) for line in lines]) / 1e3
    ended = np.array([int(line[4]) + int(line[5]) / 1e6 for line in lines])
    per_s = len(lines) / (ended.max() - ended.min())
    return Inserts(float(per_s), float(np.percentile(taken_ms, 99)))


def throughput(world: World, rounds: int, seconds: int) -> dict[tuple[str, int], list[Inserts]]:
    """Rounds by table and writers; both tables take turns, and begin each in turn."""
    found: dict[tuple[str, int], list[Inserts]] = defaultdict(list)
    for number in range(rounds):
        for writers in WRITERS:
            tables = ("plain", "reviews") if number % 2 else ("reviews", "plain")
            for table in tables:
                world.query("TRUNCATE training.plain, training.reviews, mesh.outbox")
                options = ("-c", str(writers), "-T", str(seconds))
                found[table, writers].append(pgbench(world, table, *options))
    return found


def by_copy(world: World) -> int:
    """Copy 25,000 rows; return the runs that came of it."""
    with tempfile.TemporaryFile("w+") as file, world.connection.cursor() as cursor:
        file.writelines(f"{number} {TEXT}\tpositive\n" for number in range(ROWS))
        file.seek(0)
        cursor.copy_expert("COPY training.copied (text, label) FROM STDIN", file)
    world.until(lambda: world.runs("copied") > 0 and world.settled("copied"))
    return world.runs("copied")


def in_a_minute(world: World) -> int:
    """Insert 25,000 rows one by one in a minute; return the runs that came of it."""
    rate = str(ROWS / MINUTE_S)
    pgbench(world, "single", "-c", "8", "-t", str(ROWS // 8), "-R", rate)
    world.until(lambda: world.settled("single"))
    return world.runs("single")


def prompt(world: World, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from an insert's commit to its run, and of a POST of a run alone."""
    posts = asyncio.run(_posts(world, count))
    waits: list[float] = []
    for number in range(count):
        model = f"prompt{number % PROMPT_MODELS}"
        waits.append(_prompt_once(world, model))
    return waits, posts


def _prompt_once(world: World, model: str) -> float:
    world.until(lambda: world.settled(model))
    before = world.runs(model)
    world.query(f"INSERT INTO training.{model} (text, label) VALUES (%s, 'a')", TEXT)
    committed = time.perf_counter()
    world.until(lambda: world.runs(model) > before)
    return (world.airflow.created_at[-1] - committed) * 1e3


async def _posts(world: World, count: int) -> list[float]:
    airflow = HttpAirflow(TriggerSettings(airflow_url=world.airflow.url))
    taken = []
    for number in range(count + 1):
        begin = time.perf_counter()
        await airflow.start_run(Run(f"alone__{number}", {"model": "alone", "rows": 1}))
        taken.append((time.perf_counter() - begin) * 1e3)
    await airflow.close()
    return taken[1:]  # the first one logs in


def _throughput_rows(
    airflow: str, found: dict[tuple[str, int], list[Inserts]]
) -> Iterator[tuple[str, ...]]:
    for writers, wanted in WRITERS.items():
        pairs = list(zip(found["reviews", writers], found["plain", writers], strict=True))
        with_it, without = (median(pair[side].per_s for pair in pairs) for side in (0, 1))
        p99, plain_p99 = (median(pair[side].p99_ms for pair in pairs) for side in (0, 1))
        yield (
            f"single rows, {writers} {'writer' if writers == 1 else 'writers'}, Airflow {airflow}",
            f"{with_it:,.0f}/s, p99 {p99:.2f} ms",
            f"{without:,.0f}/s, p99 {plain_p99:.2f} ms",
            f"{with_it / without:.2f}, p99 {p99 / plain_p99:.2f}",
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


Rounds = Annotated[int, typer.Option(help="Rounds of the throughput.", min=1)]
Seconds = Annotated[int, typer.Option(help="Of one measurement.", min=1)]
Count = Annotated[int, typer.Option(help="Inserts whose run is waited for.", min=1)]
Minute = Annotated[bool, typer.Option(help="Insert 25,000 rows one by one in a minute.")]


def main(
    rounds: Rounds = 7,
    seconds: Seconds = 5,
    count: Count = 200,
    minute: Minute = True,
    save: Save = True,
) -> None:
    """Measure, print, and keep the figures if asked to."""
    end_as_by_control_c()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name, world(Path(name)) as made:
        # The service makes the tables at its start.
        with console.status("starting the trigger service"), made.bridge(made.airflow.url):
            for model in ("reviews", "copied", "single"):
                made.make(model)
            made.query("CREATE TABLE training.plain (LIKE training.reviews INCLUDING ALL)")
            with console.status("25,000 rows by COPY"):
                rows.append(_runs_row("25,000 rows by COPY", by_copy(made), 1))
            if minute:
                with console.status("25,000 rows one by one in a minute"):
                    rows.append(_runs_row("25,000 inserts in a minute", in_a_minute(made), 3))
        for airflow, url in (("up", made.airflow.url), ("down", NOWHERE)):
            with made.bridge(url), console.status(f"single rows, Airflow {airflow}"):
                rows += _throughput_rows(airflow, throughput(made, rounds, seconds))
        made.query("UPDATE mesh.batches SET state = 'FAILED' WHERE state IN ('SEALED', 'RUNNING')")
        with made.bridge(made.airflow.url, seal_quiet_ms=0), console.status("commit to run"):
            for number in range(PROMPT_MODELS):
                made.make(f"prompt{number}")
            rows += _prompt_rows(*prompt(made, count))
    section = Section(
        title="What the trigger costs an INSERT, and how soon a run follows",
        command="python -m bench.inserts",
        columns=("measured", "with the trigger", "beside", "ratio or difference", "wanted"),
        rows=tuple(rows),
        notes=(
            f"Medians of {rounds} alternating rounds of {seconds} s with pgbench, prepared, one"
            " row a transaction, beside the same table without triggers; PostgreSQL flushes each"
            " commit to disk, as by default. The bridge is a process of its own on the same cores.",
            "Airflow is a stub with its answers, whose runs succeed at the first question.",
        ),
    )
    section.show(console)
    if save:
        record("inserts", section)


def _runs_row(name: str, runs: int, wanted: int) -> tuple[str, ...]:
    return (name, f"{runs} {'run' if runs == 1 else 'runs'}", "", "", f"<= {wanted}")


if __name__ == "__main__":
    typer.run(main)
