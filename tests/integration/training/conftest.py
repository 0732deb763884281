"""A job store of each kind, with nothing in it."""

from collections.abc import AsyncIterator

import pytest

from service_kit.database import Database, apply_schema
from tests.integration.training.job_stores import MODELS
from tests.real_parts.training_service import import_rows
from tests.unit.training.fakes import MemoryJobs
from training_svc.jobs import job_store
from training_svc.jobs.job_store import JobStore, PostgresJobs


@pytest.fixture(params=["memory", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """URL of a fresh database for PostgreSQL's store, None for the twin."""
    if request.param == "memory":
        return None
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(database_url: str | None) -> AsyncIterator[JobStore]:
    """An empty store in which the models above are known."""
    if database_url is None:
        yield MemoryJobs(MODELS)
        return
    database = Database(database_url, "test")
    await apply_schema(database, "training jobs", job_store.SCHEMA)
    import_rows(database_url, MODELS[0], [], new=True)
    for model in MODELS[1:]:
        import_rows(database_url, model, [], new=True)
    yield PostgresJobs(database)
    await database.close()
