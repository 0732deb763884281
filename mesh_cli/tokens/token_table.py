"""The record of tokens in PostgreSQL, mesh.tokens, over any way to run a statement."""

from collections.abc import Callable
from typing import Any

from mesh_cli.errors import BadInput, CliError
from mesh_cli.tokens.grant import Token

# Tokens that have not ended. The control plane reads the revoked ones of so many at once.
MAX_TOKENS = 10_000
# A token that has ended stays for a day, since clocks differ and people ask what it was.
_CLEAN = "DELETE FROM mesh.tokens WHERE expires_at < now() - interval '1 day'"
_ADD = """
INSERT INTO mesh.tokens (id, subject, scopes, models, created_at, expires_at, revoked_at)
SELECT new ->> 'id', new ->> 'subject', new ->> 'scopes', new ->> 'models',
       to_timestamp((new ->> 'created_at')::bigint), to_timestamp((new ->> 'expires_at')::bigint),
       CASE WHEN (new ->> 'revoked')::boolean THEN now() END
FROM (SELECT %(given)s::jsonb AS new) AS given
WHERE (SELECT count(*) FROM mesh.tokens WHERE expires_at > now()) < (new ->> 'most')::bigint
RETURNING to_json(true)
"""
_REVOKE = """
UPDATE mesh.tokens SET revoked_at = coalesce(revoked_at, now())
WHERE id = %(given)s::jsonb ->> 'id'
RETURNING json_build_object('subject', subject)
"""
_LIST = """
SELECT coalesce(json_agg(json_build_object(
    'id', id, 'subject', subject, 'scopes', scopes, 'models', models,
    'createdAt', created_at, 'expiresAt', expires_at, 'revokedAt', revoked_at
) ORDER BY created_at, id), '[]')
FROM mesh.tokens WHERE expires_at > now() AND %(given)s::jsonb IS NOT NULL
"""

Ask = Callable[[str, dict[str, Any]], Any]
"""Runs a statement in the training database, in which `%(given)s` stands for the values as JSON.
Returns its one answer, read from JSON; None: it has none. Raises CliError."""


class TokenTable:
    """Adds, lists and revokes tokens."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def add(self, token: Token, revoked: bool = False) -> None:
        """Record a token. Raises CliError when there are too many."""
        self._ask(_CLEAN, {})
        values = {
            **{"id": token.id, "subject": token.grant.subject},
            **{"scopes": " ".join(token.grant.scopes), "models": " ".join(token.grant.models)},
            **{"created_at": token.created_at, "expires_at": token.expires_at},
            **{"revoked": revoked, "most": MAX_TOKENS},
        }
        if self._ask(_ADD, values) is None:
            raise CliError(
                f"there are {MAX_TOKENS:,} tokens that have not ended, and no more are kept:"
                " give new ones a shorter --ttl, or let one program use one token"
            )

    def revoke(self, token_id: str) -> str:
        """Revoke a token and return its subject. Raises BadInput when there is no such token."""
        found = self._ask(_REVOKE, {"id": token_id})
        if found is None:
            raise BadInput(f"no token has the id {token_id[:80]!r}: `mesh token list` shows them")
        subject: str = found["subject"]
        return subject

    def tokens(self) -> list[dict[str, Any]]:
        """The tokens that have not ended, the oldest first."""
        found: list[dict[str, Any]] = self._ask(_LIST, {})
        return found
