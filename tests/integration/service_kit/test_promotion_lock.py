"""The lock of a model's aliases, on a real PostgreSQL; MLflow is away."""

from contextlib import closing

import psycopg2
import pytest

from service_kit.database import Database, Timeouts, apply_schema
from service_kit.errors import Unavailable
from service_kit.model_registry import promotion
from service_kit.model_registry.promotion import SCHEMA, Promotions
from service_kit.model_registry.registry import Registry


async def test_a_move_that_waits_too_long_for_another_one_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "TIMEOUTS", Timeouts(statement_ms=60_000, lock_ms=50))
    database = Database(postgres_url, "test", threads=1)
    await apply_schema(database, "promotions", SCHEMA)
    await database.close()
    registry = Registry("http://127.0.0.1:1")
    with closing(psycopg2.connect(postgres_url)) as other:
        other.cursor().execute("INSERT INTO mesh.promotions (model) VALUES ('reviews')")
        with pytest.raises(Unavailable, match=r"moving the aliases of reviews .*waited 0.05 s"):
            await Promotions(postgres_url, registry).challenge("reviews", "1")
    await registry.close()
