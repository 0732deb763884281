"""The services do their work with the roles that they have: imports, batches, removals, tidying."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from grpc import aio

from control_plane.removal.removed_models import SCHEMA as REMOVALS
from control_plane.removal.removed_models import PostgresRemovals, Removal
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2, model_rows_pb2, model_rows_pb2_grpc
from mesh_cli.local.garbage import Collector
from mesh_cli.local.local_mesh import LocalMesh
from service_kit.database import Database, apply_schema
from service_kit.database_roles.names import CONTROL_PLANE, OPERATOR, TRAINING, TRIGGER
from service_kit.model_registry.promotion import SCHEMA as PROMOTIONS
from service_kit.model_registry.registry import Registry
from tests.integration.database_roles.conftest import Server
from tests.real_parts.trigger_service import (
    examples,
    query,
    serving_trigger,
    until,
    until_state,
)
from training_svc.jobs.job import Submission
from training_svc.jobs.job_store import PostgresJobs
from trigger_svc.bridge.airflow import RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

ROWS = "SELECT count(*) FROM training.{}"
TABLES = "SELECT to_regclass('training.films')"


@pytest.fixture(params=["new", "upgraded"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both servers in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def airflow() -> MemoryAirflow:
    return MemoryAirflow()


@pytest.fixture
async def address(server: Server, airflow: MemoryAirflow) -> AsyncIterator[str]:
    async with serving_trigger(server.url(TRIGGER), airflow) as running:
        yield running


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncMeshClient]:
    async with AsyncMeshClient(address) as running:
        yield running


async def test_an_import_makes_a_table_that_training_reads_and_the_operator_writes(
    server: Server, client: AsyncMeshClient
) -> None:
    # So many that they come in several messages and through the table in between.
    answer = await client.import_examples("songs", examples(3_000), no_train=True)
    assert answer.rows.train + answer.rows.test == 3_000
    await client.add_examples("songs", examples(5, prefix="more"))
    assert (await client.delete_examples("songs", ["more 1", "text 7"])).deleted == 2
    assert query(server.url(TRAINING), ROWS.format("songs")) == [(3_003,)]
    query(server.url(OPERATOR), "INSERT INTO training.songs (text, label) VALUES ('by hand', 'a')")
    query(server.url(OPERATOR), "ALTER TABLE training.songs ADD COLUMN note text")
    dataset = await client.get_dataset("songs")
    assert dataset.rows.train + dataset.rows.test == 3_004


async def test_the_bridge_takes_a_batch_from_the_commit_to_its_end(
    server: Server, client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    query(server.url(OPERATOR), "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')")
    batch = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    airflow.end(batch.id, RunState.FAILED)
    await until_state(client, data_pb2.BATCH_STATE_FAILED)
    await client.retry("reviews", batch.id)
    await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    airflow.end(batch.id, RunState.SUCCEEDED)
    await until_state(client, data_pb2.BATCH_STATE_SUCCEEDED)


@pytest.mark.parametrize("owner", ["the trigger service", "the operator"])
async def test_a_removed_model_loses_its_table_whoever_made_it(
    server: Server, client: AsyncMeshClient, address: str, airflow: MemoryAirflow, owner: str
) -> None:
    if owner == "the operator":
        query(
            server.url(OPERATOR),
            "DROP TABLE IF EXISTS training.films;"
            "CREATE TABLE training.films (LIKE training.reviews INCLUDING ALL)",
        )
    await client.import_examples("films", examples(10))
    await client.trigger("films")

    async def posted() -> bool:
        return bool(airflow.runs)

    await until(posted)
    async with aio.insecure_channel(address) as channel:
        rows = model_rows_pb2_grpc.ModelRowsServiceStub(channel)
        request = model_rows_pb2.ForgetRequest(model="films", with_rows=True)
        answer = await rows.Forget(request, timeout=30)
    assert (answer.known, answer.rows_removed) == (True, True)
    assert query(server.superuser(), TABLES) == [(None,)]


async def test_the_control_plane_records_a_removal_and_forgets_the_models_promotions(
    server: Server,
) -> None:
    database = Database(server.url(CONTROL_PLANE), "test", 1)
    await apply_schema(database, "control plane", PROMOTIONS, REMOVALS)
    store = PostgresRemovals(database)
    removal = Removal("films", 7, ("1", "2"), ("a", "b"), with_rows=True, request_id="r1")
    await store.save(removal)
    query(
        server.url(TRAINING),
        "INSERT INTO mesh.promotions (model, created_at) VALUES ('films', 7), ('reviews', 7)",
    )
    done = replace(removal, rows_removed=True, done=True)
    await store.save(done)
    assert await store.all() == [done]
    await database.close()
    left = query(server.url(CONTROL_PLANE), "SELECT model FROM mesh.promotions")
    assert left == [("reviews",)]


async def test_the_training_service_keeps_its_jobs_and_sees_failed_batches(server: Server) -> None:
    database = Database(server.url(TRAINING), "test", 1)
    jobs = PostgresJobs(database)
    job = await jobs.submit(Submission("reviews", "retrain__reviews__1"))
    assert (await jobs.get("retrain__reviews__1")).id == job.id
    taken = await jobs.take("worker")
    assert taken is not None
    await jobs.request_cancel(job.id)
    assert await jobs.cancel_jobs_of_failed_batches() == []
    query(server.url(TRAINING), "UPDATE mesh.training_jobs SET state = 'FAILED', ended_at = now()")
    query(
        server.url(TRAINING), "UPDATE mesh.training_jobs SET ended_at = now() - interval '90 days'"
    )
    await jobs.forget_old(30)
    assert await jobs.list("reviews", 10) == []
    await database.close()


async def test_mesh_gc_asks_which_trainings_are_under_way(server: Server, tmp_path: Path) -> None:
    database = Database(server.url(TRAINING), "test", 1)
    job = await PostgresJobs(database).submit(Submission("reviews", "r1"))
    await database.close()
    for name in (f"{job.id}-1", "job-ended-1"):
        (tmp_path / "training" / "jobs" / name).mkdir(parents=True)

    async def no_models() -> list[Any]:
        return []

    home = SimpleNamespace(root=tmp_path, logs=tmp_path, artifacts=tmp_path)
    mesh = SimpleNamespace(home=home, database_url=server.url(OPERATOR), parts=[])
    registry = SimpleNamespace(list_models=no_models)
    collector = Collector(cast(LocalMesh, mesh), cast(Registry, registry), keep=2, days=30)
    assert [garbage.name for garbage in await collector.find()] == ["job-ended-1"]
