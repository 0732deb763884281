"""One large training table: its COPY, its batch and its counts: `python -m bench.tables.large`

The first `--copied` rows come by one COPY into a table with the triggers, the others by statements
of 10 million rows that PostgreSQL itself makes. Memory is the peak of what the backend of the COPY
has for itself (RssAnon), beside the buffers that all backends share. Then the trigger service seals
the rows and answers GetDataset.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import psycopg2
import typer
from psycopg2.extensions import connection as Connection
from rich.console import Console

from bench.kit.results import Section
from mesh.client import AsyncMeshClient
from tests.real_parts.postgres import running_postgres
from tests.real_parts.trigger_service import examples, running_trigger, until
from trigger_svc.bridge.airflow_memory import MemoryAirflow

MIB = 1024
TEXT = "Better than I had dared to hope, and over before I wanted it to be."
LABELS = ("angry", "happy", "indifferent", "sad")
WAIT_S = 600.0
SAMPLE_S = 0.02
STATEMENT_ROWS = 10_000_000
console = Console()


class Rows:
    """A file for COPY with `count` rows, made while it is read."""

    def __init__(self, count: int) -> None:
        self._lines = self._chunks(count)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, about `size` of them."""
        while len(self._rest) < size and (chunk := next(self._lines, b"")):
            self._rest += chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    @staticmethod
    def _chunks(count: int) -> Iterator[bytes]:
        for start in range(0, count, 1_000):
            lines = (
                f"{number} {TEXT}\t{LABELS[number % len(LABELS)]}\n"
                for number in range(start, min(start + 1_000, count))
            )
            yield "".join(lines).encode()


@contextmanager
def peak_memory(connection: Connection) -> Iterator[list[float]]:
    """Yield a list that holds, at the end, the most MiB that the session's backend had."""
    status = Path(f"/proc/{connection.info.backend_pid}/status")
    peak, end = [0.0], threading.Event()

    def watch() -> None:
        while not end.wait(SAMPLE_S):
            for line in status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak[0] = max(peak[0], int(line.split()[1]) / MIB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()


def copy(url: str, rows: int) -> tuple[float, float]:
    """Copy the rows; return the seconds that it took and the peak MiB of the backend."""
    with closing(psycopg2.connect(url)) as connection, peak_memory(connection) as peak:
        begin = time.perf_counter()
        with connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY training.large (text, label) FROM STDIN", Rows(rows))
        return time.perf_counter() - begin, peak[0]


def make(url: str, first: int, rows: int) -> None:
    """Let PostgreSQL make the rows from number `first` on."""
    with closing(psycopg2.connect(url)) as connection:
        for start in range(first, rows, STATEMENT_ROWS):
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO training.large (text, label)"
                    " SELECT n || %s, (%s::text[])[n %% 4 + 1] FROM generate_series(%s, %s) AS n",
                    (f" {TEXT}", list(LABELS), start, min(start + STATEMENT_ROWS, rows) - 1),
                )


async def measure(url: str, rows: int, copied: int) -> Section:
    """Measure one table with `rows` rows."""
    airflow = MemoryAirflow()
    async with running_trigger(url, airflow, seal_quiet_ms=1_000) as client:
        await client.import_examples("large", examples(10), no_train=True)
        with console.status(f"{copied:,} rows by COPY"):
            copy_s, peak_mib = await asyncio.to_thread(copy, url, copied)
        with console.status(f"{rows - copied:,} rows by INSERT"):
            await asyncio.to_thread(make, url, copied, rows)
        begin = time.perf_counter()

        async def posted() -> bool:
            return bool(airflow.runs)

        await until(posted, WAIT_S)
        seal_s = time.perf_counter() - begin
        dataset = await client.get_dataset("large")
        taken = [await _get_dataset(client) for _ in range(5)]
    exact = rows + 8
    error = abs(dataset.rows.train - exact) / exact
    return Section(
        title=f"A training table with {rows:,} rows",
        command=f"python -m bench.tables.large --rows {rows} --copied {copied}",
        columns=("measured", "value"),
        rows=(
            (f"COPY of {copied:,} rows into the table with the triggers", f"{copy_s:.1f} s"),
            ("peak memory of the COPY's backend", f"{peak_mib:.0f} MiB"),
            ("end of the last statement to the first batch's run", f"{seal_s:.2f} s"),
            ("GetDataset, slowest of 5", f"{max(taken):.2f} s"),
            ("GetDataset, estimated", str(dataset.estimated)),
            ("GetDataset, rows to train on, off by", f"{error:.2%}"),
            ("labels in it", str(len(dataset.labels))),
        ),
    )


async def _get_dataset(client: AsyncMeshClient) -> float:
    begin = time.perf_counter()
    await client.get_dataset("large")
    return time.perf_counter() - begin


def main(
    rows: Annotated[int, typer.Option(help="Rows of the table.", min=1)] = 10_000_000,
    copied: Annotated[int, typer.Option(help="Rows of one COPY.", min=1)] = 10_000_000,
    folder: Annotated[Path | None, typer.Option(help="Folder for PostgreSQL's data.")] = None,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=folder) as name, running_postgres(Path(name)) as url:
        asyncio.run(measure(url, rows, min(copied, rows))).show(console)


if __name__ == "__main__":
    typer.run(main)
