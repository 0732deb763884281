"""Turns of the loop: rows go into a table, and later a version trained on them answers."""

import asyncio
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from mesh.client import AsyncMeshClient
from mesh.errors import MeshError
from mesh.v1 import data_pb2
from tests.real_parts.training_service import make_rows
from tests.whole_mesh.running_mesh import Mesh

# Seconds between two looks at the database or the mesh.
LOOK_S = 0.1
# Seconds that a disturbed turn may take longer than an undisturbed one, counted from the moment
# at which the disturbed part is back.
COMPLETES_S = 60.0
_ROWS = make_rows(160)

# Steps of a turn, each as an SQL condition on the batch's row that holds from that step on.
SEALED = "true"
TRAINING = (
    "EXISTS (SELECT FROM mesh.training_jobs"
    " WHERE request_id = batch.id AND state IN ('RUNNING', 'EVALUATING'))"
)
RELOADING = (
    "EXISTS (SELECT FROM mesh.training_jobs WHERE request_id = batch.id AND state = 'SUCCEEDED')"
)
STEPS = {"sealed": SEALED, "training": TRAINING, "reloading": RELOADING}


@dataclass(frozen=True)
class Undisturbed:
    """A model in service, and the seconds that its turn of the loop took without any fault."""

    model: str
    turn_s: float


@dataclass(frozen=True)
class Turn:
    """One turn of the loop of a new model, which ends with a Reload of the model's version 1."""

    model: str
    batch: str
    database_url: str

    async def reached(self, step: str, timeout_s: float = 200.0) -> None:
        """Wait until the turn has come to `step`, a key of STEPS."""
        sql = f"SELECT {STEPS[step]} FROM mesh.batches AS batch WHERE id = '{self.batch}'"
        async with asyncio.timeout(timeout_s):
            while not (await asyncio.to_thread(query, self.database_url, sql))[0][0]:
                await asyncio.sleep(LOOK_S)

    async def ended(self, address: str, timeout_s: float = 400.0) -> float:
        """Wait until the batch has succeeded and its version answers; return the seconds taken."""
        began = time.monotonic()
        async with asyncio.timeout(timeout_s), AsyncMeshClient(address) as client:
            while not await self._answers(client):
                await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def _answers(self, client: AsyncMeshClient) -> bool:
        try:
            [batch] = [
                batch for batch in await client.list_batches(self.model) if batch.id == self.batch
            ]
            answer = await client.predict(self.model, "a lovely film")
        except (MeshError, ValueError):
            return False
        succeeded = batch.state == data_pb2.BATCH_STATE_SUCCEEDED
        return succeeded and answer.model.batch_id == self.batch

    def story(self) -> dict[str, Any]:
        """The rows of the batch and its job in the database, and the model's batches and jobs."""
        sql = (
            "SELECT b.state, b.error, j.state, j.attempt, j.error, j.version,"
            " (SELECT count(*) FROM mesh.batches WHERE model = b.model),"
            " (SELECT count(*) FROM mesh.training_jobs WHERE model = b.model)"
            " FROM mesh.batches b LEFT JOIN mesh.training_jobs j ON j.request_id = b.id"
            f" WHERE b.id = '{self.batch}'"
        )
        names = ("state", "error", "job", "attempt", "job_error", "version", "batches", "jobs")
        return dict(zip(names, query(self.database_url, sql)[0], strict=True))


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement in a transaction of its own; return its rows."""
    with (
        closing(psycopg2.connect(url, connect_timeout=5)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


async def begin(mesh: Mesh, database_url: str, folder: Path) -> Turn:
    """Import the test rows of a new model, insert its training rows, wait for the sealed batch."""
    model = f"turn_{uuid.uuid4().hex[:8]}"
    held_out = folder / f"{model}-held-out.csv"
    lines = [f"{text},{label}" for text, label, split in _ROWS if split == "test"]
    held_out.write_text("\n".join(["text,label", *lines]) + "\n")
    first = folder / f"{model}-first.csv"
    rows = [(text, label) for text, label, split in _ROWS if split == "train"]
    first.write_text("\n".join(["text,label", *(f"{t},{k}" for t, k in rows[:2])]) + "\n")
    arguments = ("import", model, first, "--test", held_out, "--no-train")
    await asyncio.to_thread(mesh.run, *arguments)
    values = ", ".join(f"('{text}', '{label}')" for text, label in rows[2:])
    insert = f"INSERT INTO training.{model} (text, label) VALUES {values}"
    await asyncio.to_thread(query, database_url, insert)
    async with asyncio.timeout(30):
        sql = f"SELECT id FROM mesh.batches WHERE model = '{model}'"
        while not (batches := await asyncio.to_thread(query, database_url, sql)):
            await asyncio.sleep(0.02)
    return Turn(model, batches[0][0], database_url)
