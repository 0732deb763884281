"""The job store on a real PostgreSQL."""

import pytest

from service_kit.database import Database, apply_schema
from service_kit.errors import Unavailable
from training_svc.jobs import job_store as store
from training_svc.jobs.job import Params, Promotion
from training_svc.jobs.job_store import PostgresJobs


async def test_call_before_the_schema_is_applied_may_be_retried(postgres_url: str) -> None:
    database = Database(postgres_url, "test")
    jobs = PostgresJobs(database)
    with pytest.raises(Unavailable, match="is starting"):
        await jobs.submit("reviews", "r1", Params(), Promotion.AUTO)
    await apply_schema(database, "training jobs", store.SCHEMA)
    assert await jobs.unfinished() == []
    await database.close()
