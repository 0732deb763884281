"""The audit in PostgreSQL, mesh.audit: who changed what. It is read, and entries are added."""

import platform
from typing import Any, Protocol

# Entries that are read at once.
MAX_ENTRIES = 10_000

NOTE = """
INSERT INTO mesh.audit (id, at, subject, token_id, method, model, request_id, outcome, detail)
SELECT gen_random_uuid(), now(), new ->> 'by', '', new ->> 'done', '', '', 'OK', new ->> 'detail'
FROM given"""
"""Adds the entry that `noted` describes; `given.new` has its values."""
_NOTE_ALONE = f"""
WITH given AS (SELECT %(given)s::jsonb AS new), noted AS ({NOTE})
SELECT to_json(true) FROM given
"""  # noqa: S608  our own statements
# The values are the same for the whole statement, so PostgreSQL finds the index that suits them.
_READ = """
SELECT coalesce(json_agg(found), '[]') FROM (
    SELECT to_char(audit.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "at",
           subject, token_id AS "tokenId", method, model, request_id AS "requestId", outcome, detail
    FROM mesh.audit
    WHERE (%(given)s::jsonb ->> 'model' = '' OR model = %(given)s::jsonb ->> 'model')
      AND (%(given)s::jsonb ->> 'subject' = '' OR subject = %(given)s::jsonb ->> 'subject')
    ORDER BY audit.at DESC, id LIMIT (%(given)s::jsonb ->> 'limit')::bigint
) AS found
"""


class Ask(Protocol):
    """A way to run statements in the training database."""

    def __call__(self, statement: str, given: dict[str, Any], /) -> Any:
        """Run a statement in which `%(given)s` stands for the values as JSON.

        Returns its one answer, read from JSON; None: it has none. Raises CliError.
        """


def noted(done: str, detail: str) -> dict[str, str]:
    """The values of NOTE: what the operator of this machine has done."""
    return {"by": f"operator on {platform.node()}", "done": done, "detail": detail[:500]}


def note(ask: Ask, done: str, detail: str) -> None:
    """Add an entry. Raises CliError."""
    ask(_NOTE_ALONE, noted(done, detail))


def entries(ask: Ask, model: str, subject: str, limit: int) -> list[dict[str, str]]:
    """The newest entries, the newest first; an empty model or subject means every one.

    `ask` has to run as the operator: no part reads the audit. Raises CliError.
    """
    found: list[dict[str, str]] = ask(_READ, {"model": model, "subject": subject, "limit": limit})
    return found
