"""The record of tokens in PostgreSQL, mesh.tokens, over any way to run a statement.

Each change is noted in the audit, in the same transaction.
"""

from typing import Any

from mesh_cli.errors import BadInput, CliError
from mesh_cli.tokens.audit_table import NOTE, Ask, noted
from mesh_cli.tokens.grant import Token

# Tokens that have not ended. The control plane reads the revoked ones of so many at once.
MAX_TOKENS = 10_000
# A token that has ended stays for a day, since clocks differ and people ask what it was.
_CLEAN = "DELETE FROM mesh.tokens WHERE expires_at < now() - interval '1 day'"
_ADD = f"""
WITH given AS (SELECT %(given)s::jsonb AS new), changed AS (
    INSERT INTO mesh.tokens (id, subject, scopes, models, created_at, expires_at, revoked_at)
    SELECT new ->> 'id', new ->> 'subject', new ->> 'scopes', new ->> 'models',
           to_timestamp((new ->> 'created_at')::bigint),
           to_timestamp((new ->> 'expires_at')::bigint),
           CASE WHEN (new ->> 'revoked')::boolean THEN now() END
    FROM given
    WHERE (SELECT count(*) FROM mesh.tokens WHERE expires_at > now()) < (new ->> 'most')::bigint
    RETURNING id
), noted AS ({NOTE}, changed)
SELECT to_json(true) FROM changed
"""  # noqa: S608  our own statements, as everywhere here
_REVOKE = f"""
WITH given AS (SELECT %(given)s::jsonb AS new), changed AS (
    UPDATE mesh.tokens SET revoked_at = coalesce(revoked_at, now())
    FROM given WHERE id = new ->> 'id' RETURNING subject
), noted AS ({NOTE}, changed)
SELECT json_build_object('subject', subject) FROM changed
"""  # noqa: S608
_LIST = """
SELECT coalesce(json_agg(json_build_object(
    'id', id, 'subject', subject, 'scopes', scopes, 'models', models,
    'createdAt', created_at, 'expiresAt', expires_at, 'revokedAt', revoked_at
) ORDER BY created_at, id), '[]')
FROM mesh.tokens WHERE expires_at > now() AND %(given)s::jsonb IS NOT NULL
"""


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
            **noted("mesh token revoke" if revoked else "mesh token create", _described(token)),
        }
        if self._ask(_ADD, values) is None:
            raise CliError(
                f"there are {MAX_TOKENS:,} tokens that have not ended, and no more are kept:"
                " give new ones a shorter --ttl, or let one program use one token"
            )

    def revoke(self, token_id: str) -> str:
        """Revoke a token and return its subject. Raises BadInput when there is no such token."""
        values = {"id": token_id, **noted("mesh token revoke", f"token {token_id}")}
        found = self._ask(_REVOKE, values)
        if found is None:
            raise BadInput(f"no token has the id {token_id[:80]!r}: `mesh token list` shows them")
        subject: str = found["subject"]
        return subject

    def tokens(self) -> list[dict[str, Any]]:
        """The tokens that have not ended, the oldest first."""
        found: list[dict[str, Any]] = self._ask(_LIST, {})
        return found


def _described(token: Token) -> str:
    grant = token.grant
    return (
        f"token {token.id} of {grant.subject}, scopes {' '.join(grant.scopes)},"
        f" models {' '.join(grant.models)}"
    )
