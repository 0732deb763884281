"""PostgreSQL with the triggers, the trigger service and a stub Airflow, for `bench.inserts`.

PostgreSQL keeps its own durability. `pgbench` writes the rows.
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg2
from psycopg2.extensions import connection as Connection

from bench.kit.server_process import ServerProcess
from tests.real_parts.postgres import BINARIES, SETTINGS, free_port, running_postgres
from tests.twins.stub_airflow import StubAirflow, running_stub_airflow
from trigger_svc.database.queries import model_table

# Nothing listens here.
NOWHERE = "http://127.0.0.1:1"
TEXT = "Better than I had dared to hope, and over before I wanted it to be."
WAIT_S = 120.0
# Settings by which the tests' PostgreSQL gives up durability; the benchmark leaves them out.
_NOT_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True)
class Inserts:
    """One round of pgbench: rows a second, and the p99 of one insert in milliseconds."""

    per_s: float
    p99_ms: float


class TriggeredDatabase:
    """A database and a stub Airflow; the trigger service runs when it is asked for."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.airflow = StubAirflow(polls=0)
        self.connection: Connection = psycopg2.connect(url)
        self.connection.autocommit = True

    def query(self, sql: str, *values: object) -> list[tuple[int, ...]]:
        """Run one statement; return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def add_model(self, model: str) -> None:
        """Add a model with its table and triggers."""
        self.query("INSERT INTO mesh.models (name, registered) VALUES (%s, true)", model)
        with self.connection.cursor() as cursor:
            cursor.execute(model_table(model))

    def runs(self, model: str) -> int:
        """Number of runs that Airflow was asked for, for a model."""
        return sum(name.startswith(f"retrain__{model}__") for name in tuple(self.airflow.created))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` is true. Raises TimeoutError after WAIT_S seconds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the benchmark waited {WAIT_S:.0f} s in vain")
            time.sleep(0.01)

    def is_settled(self, models: str) -> bool:
        """Whether no row waits for a batch and no batch runs; `models` is a pattern of LIKE."""
        ((waiting,),) = self.query(
            "SELECT (SELECT count(*) FROM mesh.outbox WHERE model LIKE %s)"
            " + (SELECT count(*) FROM mesh.batches"
            "    WHERE model LIKE %s AND state IN ('SEALED', 'RUNNING'))",
            *(models, models),
        )
        return not waiting

    @contextmanager
    def running_trigger_service(self, airflow_url: str, **values: int) -> Iterator[None]:
        """Run the trigger service in a process, with settings of its own in `values`."""
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
def running_database(folder: Path) -> Iterator[TriggeredDatabase]:
    """Start PostgreSQL and the stub Airflow; their files go to `folder`."""
    durable = {name: value for name, value in SETTINGS.items() if name not in _NOT_DURABLE}
    (folder / "postgres").mkdir()
    with running_postgres(folder / "postgres", settings=durable) as url:
        database = TriggeredDatabase(url, folder)
        with closing(database.connection), _in_a_thread(database.airflow):
            yield database


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


def pgbench(database: TriggeredDatabase, table: str, *options: str) -> Inserts:
    """Insert single rows into training.`table`; `options` are those of the command pgbench."""
    with tempfile.TemporaryDirectory(dir=database.folder) as name:
        folder = Path(name)
        script = folder / "insert.sql"
        script.write_text(
            f"INSERT INTO training.{table} (text, label) VALUES ('{TEXT}', 'positive');\n"
        )
        subprocess.run(
            [
                BINARIES / "pgbench",
                "-n",
                "-M",
                "prepared",
                "-f",
                script,
                "-l",
                *options,
                database.url,
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        lines = [line.split() for log in folder.glob("pgbench_log.*") for line in log.open()]
    taken_ms = np.array([int(line[2]) for line in lines]) / 1e3
    ended = np.array([int(line[4]) + int(line[5]) / 1e6 for line in lines])
    per_s = len(lines) / (ended.max() - ended.min())
    return Inserts(float(per_s), float(np.percentile(taken_ms, 99)))
