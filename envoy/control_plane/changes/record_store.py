"""The latest signed records in PostgreSQL: a copy of those in MLflow that outlives a restart."""

from collections.abc import Collection
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from control_plane.changes.own_tables import run_on_own_tables
from control_plane.models.signed_records import KnownRecord
from service_kit.database import Database

SCHEMA = Path(__file__).parent / "sql" / "served_records.sql"
_KEEP = """
INSERT INTO mesh.served_records (model, created_at, tag, sequence, content)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (model, created_at, tag) DO UPDATE
SET sequence = excluded.sequence, content = excluded.content, kept_at = now()
WHERE served_records.sequence < excluded.sequence
"""
# Records of models that are in MLflow no more. They stay for a while, since MLflow may have been
# restored from an old backup and be restored once more.
_FORGET = """
DELETE FROM mesh.served_records
WHERE kept_at < now() - interval '30 days' AND (model, created_at) NOT IN %s
"""


class RecordStore:
    """Both methods raise Unavailable while PostgreSQL is away or its tables are not made yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[KnownRecord]:
        """Return every record."""

        def read(cursor: Cursor) -> list[KnownRecord]:
            cursor.execute(
                "SELECT model, created_at, tag, sequence, content FROM mesh.served_records"
            )
            return [KnownRecord(*row) for row in cursor.fetchall()]

        return await run_on_own_tables(self._database, read, "reading the signed records")

    async def keep(self, records: Collection[KnownRecord]) -> None:
        """Keep those that are later than the kept ones; `records` are all that there are."""

        def write(cursor: Cursor) -> None:
            for each in records:
                row = each.model, each.created_at, each.tag, each.sequence, each.text
                cursor.execute(_KEEP, row)
            cursor.execute(_FORGET, (tuple({(e.model, e.created_at) for e in records}),))

        if records:
            await run_on_own_tables(self._database, write, "keeping the signed records")
