"""Reads which tokens are revoked, and keeps a copy for the time when the database is away."""

import json
import logging
import os
import tempfile
from pathlib import Path

from psycopg2.errors import InvalidSchemaName, UndefinedTable
from psycopg2.extensions import cursor as Cursor

from control_plane.access.rules import MAX_REVOKED
from service_kit.database import Database

log = logging.getLogger(__name__)

# Newer revocations come first, so that they are the ones that hold if there are too many. The hour
# is for clocks that differ: a token counts as past its expiry only when Envoy agrees.
_REVOKED = """
SELECT id FROM mesh.tokens
WHERE revoked_at IS NOT NULL AND expires_at > now() - interval '1 hour'
ORDER BY revoked_at DESC LIMIT %s
"""


class RevokedTokens:
    """Revoked tokens, from PostgreSQL."""

    def __init__(self, database: Database, copy: Path | None) -> None:
        """`copy`: the file of the copy; None: a restart without a database knows of none."""
        self._database = database
        self._copy = copy
        self._copied: frozenset[str] | None = None

    def remembered(self) -> frozenset[str]:
        """Return the ids of the copy; none when there is no copy or it cannot be read."""
        if self._copy is None or not self._copy.exists():
            return frozenset()
        try:
            ids = json.loads(self._copy.read_text())
            self._copied = frozenset(str(each) for each in ids)
        except (OSError, ValueError, TypeError):
            log.exception("the copy of the revoked tokens cannot be read; the database tells them")
            return frozenset()
        return self._copied

    async def read(self) -> frozenset[str]:
        """Return the ids of the revoked tokens. Raises Unavailable when PostgreSQL is away."""
        try:
            revoked = await self._database.run(_ids, "reading the revoked tokens")
        except (UndefinedTable, InvalidSchemaName):
            # The table is not there yet, or not there any more; either way it tells nothing.
            return self._copied or frozenset()
        if len(revoked) == MAX_REVOKED:
            log.error(
                "too many tokens are revoked; the oldest may pass", extra={"most": MAX_REVOKED}
            )
        self._keep(revoked)
        return revoked

    def _keep(self, revoked: frozenset[str]) -> None:
        if self._copy is None or revoked == self._copied:
            return
        try:
            _write(self._copy, json.dumps(sorted(revoked)))
        except OSError:
            log.exception("the copy of the revoked tokens cannot be written")
            return
        self._copied = revoked


def _ids(cursor: Cursor) -> frozenset[str]:
    cursor.execute(_REVOKED, (MAX_REVOKED,))
    return frozenset(row[0] for row in cursor.fetchall())


def _write(file: Path, content: str) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=file.parent, prefix=f".{file.name}.", delete=False
    ) as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).replace(file)
