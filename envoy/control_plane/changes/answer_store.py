"""Where answers by request id outlive the control plane's process: a table of PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from control_plane.changes.own_tables import run_on_own_tables
from service_kit.database import Database

SCHEMA = Path(__file__).parent / "sql" / "answered_requests.sql"
# An answer is kept for this time, and the newest answers of each kind up to this number.
KEPT_DAYS = 7
KEPT_ANSWERS = 10_000


@dataclass(frozen=True)
class StoredAnswer:
    """What a request asked for, of which incarnation of its model (None: unknown), its answer."""

    content: str
    incarnation: str | None
    answer: Mapping[str, Any]


class AnswerStore(Protocol):
    """Keeps answers. Both methods may raise Unavailable."""

    async def find(self, kind: str, request_id: str) -> StoredAnswer | None:
        """Return the answer that a request of this kind had; None: none is known."""

    async def keep(self, kind: str, request_id: str, answer: StoredAnswer) -> None:
        """Keep an answer."""


class PostgresAnswers:
    """An AnswerStore in mesh.answered_requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, kind: str, request_id: str) -> StoredAnswer | None:
        """See AnswerStore."""

        def work(cursor: Cursor) -> StoredAnswer | None:
            cursor.execute(
                "SELECT content, incarnation, answer FROM mesh.answered_requests"
                " WHERE kind = %s AND request_id = %s",
                (kind, request_id),
            )
            row = cursor.fetchone()
            return StoredAnswer(*row) if row else None

        return await run_on_own_tables(self._database, work, "reading the answer of a request")

    async def keep(self, kind: str, request_id: str, answer: StoredAnswer) -> None:
        """See AnswerStore. Old answers are deleted."""
        values = (kind, request_id, answer.content, answer.incarnation, Json(dict(answer.answer)))

        def work(cursor: Cursor) -> None:
            cursor.execute(
                "INSERT INTO mesh.answered_requests"
                " (kind, request_id, content, incarnation, answer) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (kind, request_id) DO UPDATE SET content = EXCLUDED.content,"
                " incarnation = EXCLUDED.incarnation, answer = EXCLUDED.answer,"
                " answered_at = now()",
                values,
            )
            cursor.execute(
                "DELETE FROM mesh.answered_requests WHERE kind = %s AND answered_at < greatest("
                " now() - make_interval(days => %s), (SELECT answered_at"
                " FROM mesh.answered_requests WHERE kind = %s"
                " ORDER BY answered_at DESC OFFSET %s LIMIT 1))",
                (kind, KEPT_DAYS, kind, KEPT_ANSWERS - 1),
            )

        await run_on_own_tables(self._database, work, "keeping the answer of a request")
