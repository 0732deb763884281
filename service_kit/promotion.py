"""The only code that moves the aliases Champion, Previous and Challenger.

MLflow's aliases are last-write-wins. Here a move is compare-and-set: a PostgreSQL row of the model
is locked, the Champion that the decision was made against must still be the Champion, and each
move counts the epoch up. Moves are idempotent, so a crash in between is mended by doing it again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from service_kit.database import connect
from service_kit.errors import Aborted, FailedPrecondition
from service_kit.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    RegisteredModel,
    Registry,
    registered_model,
)

SCHEMA = Path(__file__).parent / "sql" / "promotions.sql"
LOCK_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Promoted:
    """Aliases after a move, and the epoch that it got."""

    champion: str
    previous: str
    epoch: int


class Promotions:
    """Moves the aliases of one registry under the lock of one database."""

    def __init__(self, database_url: str, registry: Registry) -> None:
        self._database_url = database_url
        self._registry = registry

    async def promote(self, model: str, version: str, expected_champion: str) -> Promoted:
        """Make `version` the Champion if `expected_champion` (empty: none) still is.

        Raises Aborted when another version became Champion meanwhile.
        """
        async with self._locked(model) as (cursor, registered):
            champion = registered.aliases.get(CHAMPION, "")
            if champion not in (expected_champion, version):
                raise Aborted(
                    f"version {champion} of {model} became the Champion after version {version} "
                    f"was compared with {expected_champion or 'none'}: compare them again",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )
            if expected_champion and expected_champion != version:
                await self._registry.set_alias(model, PREVIOUS, expected_champion)
            await self._registry.set_alias(model, CHAMPION, version)
            if registered.aliases.get(CHALLENGER) == version:
                await self._registry.delete_alias(model, CHALLENGER)
            return await asyncio.to_thread(_record, cursor, model, version, expected_champion)

    async def demote(self, model: str, expected_champion: str) -> Promoted:
        """Make the previous Champion the Champion again, and the Champion the previous one.

        Raises FailedPrecondition when there is no previous one, and Aborted when
        `expected_champion` is not the Champion any more.
        """
        async with self._locked(model) as (cursor, registered):
            champion = registered.aliases.get(CHAMPION, "")
            previous = registered.aliases.get(PREVIOUS, "")
            if not previous:
                raise FailedPrecondition(f"{model} has no previous Champion to go back to")
            if champion != expected_champion:
                raise Aborted(
                    f"version {champion or 'none'} of {model} became the Champion meanwhile",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )
            await self._registry.set_alias(model, CHAMPION, previous)
            await self._registry.set_alias(model, PREVIOUS, champion)
            return await asyncio.to_thread(_record, cursor, model, previous, champion)

    async def challenge(self, model: str, version: str) -> None:
        """Make `version` the Challenger."""
        async with self._locked(model):
            await self._registry.set_alias(model, CHALLENGER, version)

    @asynccontextmanager
    async def _locked(self, model: str) -> AsyncIterator[tuple[Cursor, RegisteredModel]]:
        connection = await asyncio.to_thread(connect, self._database_url, "promotion")
        try:
            with connection, connection.cursor() as cursor:
                await asyncio.to_thread(_lock, cursor, model)
                yield cursor, await registered_model(self._registry, model)
        finally:
            await asyncio.to_thread(connection.close)


def _lock(cursor: Cursor, model: str) -> None:
    cursor.execute("SET LOCAL lock_timeout = %s", (LOCK_TIMEOUT_MS,))
    cursor.execute(
        "INSERT INTO mesh.promotions (model) VALUES (%s) ON CONFLICT DO NOTHING", (model,)
    )
    cursor.execute("SELECT 1 FROM mesh.promotions WHERE model = %s FOR UPDATE", (model,))


def _record(cursor: Cursor, model: str, champion: str, previous: str) -> Promoted:
    cursor.execute(
        "UPDATE mesh.promotions SET epoch = epoch + 1, champion = %s, previous = %s,"
        " changed_at = now() WHERE model = %s RETURNING epoch",
        (champion, previous, model),
    )
    row = cursor.fetchone()
    assert row is not None
    return Promoted(champion, previous, int(row[0]))
