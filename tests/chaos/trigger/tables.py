"""The database of a run: the tables of the trigger service with two models."""

from service_kit.database import Database, apply_schema
from tests.real_parts.trigger_service import query
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

MODELS = ("left", "right")


async def make_tables(url: str) -> None:
    """Make the tables of the service and of MODELS."""
    database = Database(url, "prepare", 1)
    await apply_schema(database, "trigger", *SCHEMA)
    for model in MODELS:
        await database.run(lambda cursor, model=model: cursor.execute(model_table(model)))  # type: ignore[misc]
        query(url, "INSERT INTO mesh.models (name) VALUES (%s)", model)
    await database.close()
