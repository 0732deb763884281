"""Whether a mesh signs for the first time: only then is what was there before signed as well."""

from pathlib import Path

from psycopg2.errors import UndefinedTable
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import Unavailable

SCHEMA = Path(__file__).parent / "sql" / "signing_keys.sql"
VERSIONS, RECORDS = "versions", "records"


class FirstUse:
    """The keys that have signed for one purpose. Both methods raise Unavailable while PostgreSQL is
    away or its tables are not made yet."""

    def __init__(self, database: Database, purpose: str, key_id: str) -> None:
        self._database = database
        self._values = purpose, key_id

    async def is_over(self) -> bool:
        """Whether a key, this one or another, has signed for this purpose before."""
        query = "SELECT count(*) FROM mesh.signing_keys WHERE purpose = %s"
        return bool(await self._run(query, self._values[:1]))

    async def note(self) -> None:
        """Note that this key signs from now on."""
        await self._run(
            "WITH noted AS (INSERT INTO mesh.signing_keys (purpose, key_id) VALUES (%s, %s)"
            " ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM noted",
            self._values,
        )

    async def _run(self, query: str, values: tuple[str, ...]) -> int:
        def count(cursor: Cursor) -> int:
            cursor.execute(query, values)
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])

        try:
            return await self._database.run(count, "looking up the keys that sign")
        except UndefinedTable as error:
            raise Unavailable("the table of the keys that sign is not there yet") from error
