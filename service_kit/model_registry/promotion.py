"""The only code that moves the aliases Champion, Previous and Challenger.

In MLflow the last write of an alias wins. Here a move is compare-and-set: it locks a row of the
model in PostgreSQL, checks that the Champion is still the one that the decision was made against,
and increments the epoch. Moves are idempotent, so a move that crashed is repeated.

A mover that is held up until it has lost its lock may still write an alias after the next mover.
Then it cannot commit its epoch. When it tries again it sees the later epoch's Champion in the row,
puts that Champion back, and raises Aborted: compare again. Of two movers one learns that it lost.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import connection as Connection

from service_kit.database import Timeouts, connect, unavailable
from service_kit.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from service_kit.model_registry.promoted import TAG_PROMOTED, promoted_tag, promotion_of_champion
from service_kit.model_registry.records import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    RegisteredModel,
    registered_model,
)
from service_kit.model_registry.registry import Registry

SCHEMA = Path(__file__).parent / "sql" / "promotions.sql"
# A move waits this long for another move of the same model to end.
TIMEOUTS = Timeouts(statement_ms=40_000, lock_ms=30_000)


@dataclass(frozen=True)
class Promoted:
    """Aliases after a move, and the epoch of the move."""

    champion: str
    previous: str
    epoch: int


class Promotions:
    """Moves the aliases of one registry under the lock of one database."""

    def __init__(self, database_url: str, registry: Registry) -> None:
        self._database_url = database_url
        self._registry = registry

    async def promote(
        self,
        model: str,
        version: str,
        expected_champion: str,
        *,
        serve: bool = False,
        run_id: str = "",
        source: str = "",
        expected_source: str = "",
    ) -> Promoted:
        """Make `version` the Champion if `expected_champion` (empty: none) is still the Champion.

        `serve`: the fleet is to serve it, which the control plane sees to when nobody else does.
        `run_id` and `source` are those of the version, and `expected_source` that of the expected
        Champion, when they are known: a model that was deleted and made anew has other versions of
        the same numbers.

        Raises Aborted when another version became Champion meanwhile, or the model was made anew.
        """
        async with self._locked(model) as (lock, registered):
            await self._check_same(model, version, run_id, source)
            champion = registered.aliases.get(CHAMPION, "")
            if champion == version and lock.champion not in ("", version, expected_champion):
                await self._put_back(lock)
                champion = lock.champion
            if champion not in (expected_champion, version):
                raise Aborted(
                    f"version {champion} of {model} became the Champion after version {version} "
                    f"was compared with {expected_champion or 'none'}: compare them again",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )
            if expected_champion and champion == expected_champion:
                await self._check_same(model, expected_champion, "", expected_source)
            if expected_champion and expected_champion != version:
                await self._set(lock, PREVIOUS, expected_champion)
            noted = promoted_tag(registered, version, serve)
            if noted != registered.tags.get(TAG_PROMOTED):
                await lock.check()
                await self._registry.tag_model(model, TAG_PROMOTED, noted)
            await self._set(lock, CHAMPION, version)
            if registered.aliases.get(CHALLENGER) == version:
                await self._registry.delete_alias(model, CHALLENGER)
            return await lock.record(version, expected_champion, serve)

    async def demote(self, model: str, expected_champion: str, previous: str) -> Promoted:
        """Make `previous` the Champion again, and `expected_champion` the previous one.

        A demotion that was broken off is completed; one that is complete already changes nothing.
        Raises Aborted when another version became Champion meanwhile.
        """
        async with self._locked(model) as (lock, registered):
            champion = registered.aliases.get(CHAMPION, "")
            if champion == previous:
                broken_off = registered.aliases.get(PREVIOUS) == champion
                if lock.champion == previous and not broken_off:
                    return lock.recorded
                if lock.champion not in ("", expected_champion):
                    await self._put_back(lock)
                    champion = lock.champion
            if champion not in (expected_champion, previous):
                raise Aborted(
                    f"version {champion or 'none'} of {model} became the Champion meanwhile",
                    reason="CHAMPION_CHANGED",
                    champion=champion,
                )
            await self._set(lock, CHAMPION, previous)
            await self._set(lock, PREVIOUS, expected_champion)
            return await lock.record(previous, expected_champion)

    async def confirm(self, registered: RegisteredModel) -> None:
        """Raise FailedPrecondition if another version than the Champion was promoted last.

        Whoever may write to MLflow can move the alias and set the tag of a promotion, but not the
        row in PostgreSQL. Without a row, for example after the database was lost, MLflow counts.
        """
        name, champion = registered.name, registered.aliases.get(CHAMPION, "")
        promoted = await asyncio.to_thread(self._promoted, name, registered.created_at)
        if promoted not in ("", champion):
            raise FailedPrecondition(
                f"version {champion or 'none'} of {name} is the Champion in MLflow, but version "
                f"{promoted} was promoted last: somebody has moved the alias by hand, so the fleet "
                f"does not follow it; `mesh reload {name}` serves the Champion all the same"
            )

    def _promoted(self, model: str, created_at: int) -> str:
        """Return the Champion of the last move; empty: none is known of this model."""
        try:
            with closing(connect(self._database_url, "promotion", TIMEOUTS)) as connection:
                cursor = connection.cursor()
                cursor.execute(
                    "SELECT champion FROM mesh.promotions WHERE model = %s AND created_at = %s",
                    (model, created_at),
                )
                row = cursor.fetchone()
        except psycopg2.OperationalError as error:
            raise Unavailable(f"the promotions of {model} cannot be read: {error}") from error
        return str(row[0]) if row else ""

    async def challenge(self, model: str, version: str) -> None:
        """Make `version` the Challenger."""
        async with self._locked(model) as (lock, _):
            await self._set(lock, CHALLENGER, version)

    async def _check_same(self, model: str, version: str, run_id: str, source: str) -> None:
        """Raise Aborted unless the version has this run and source, as far as they are known."""
        if not run_id and not source:
            return
        try:
            found = await self._registry.get_version(model, version)
        except NotFound:
            found = None
        if (
            found is None
            or found.run_id != (run_id or found.run_id)
            or (found.source != (source or found.source))
        ):
            raise Aborted(
                f"{model} was deleted or renamed in MLflow and made anew, so version {version} of "
                "it is another one now: train again",
                reason="MODEL_REPLACED",
            )

    async def _note_again(self, lock: "_Lock", registered: RegisteredModel) -> None:
        """Note the Champion's promotion again if a mover that lost its lock has overwritten it."""
        champion = registered.aliases.get(CHAMPION, "")
        if lock.serve is None or not champion or champion != lock.champion:
            return
        if promotion_of_champion(registered) is None:
            noted = promoted_tag(registered, champion, lock.serve)
            await self._registry.tag_model(lock.model, TAG_PROMOTED, noted)

    async def _set(self, lock: "_Lock", alias: str, version: str) -> None:
        await lock.check()
        await self._registry.set_alias(lock.model, alias, version)

    async def _put_back(self, lock: "_Lock") -> None:
        """Undo an alias write that came after the writes of a later epoch."""
        await self._set(lock, CHAMPION, lock.champion)
        if lock.previous:
            await self._set(lock, PREVIOUS, lock.previous)

    @asynccontextmanager
    async def _locked(self, model: str) -> AsyncIterator[tuple["_Lock", RegisteredModel]]:
        """Hold the lock on the model's row; commit what was recorded at the end.

        Raises Unavailable when another move holds the lock for too long, and when PostgreSQL is
        away or goes away: then nothing is recorded, and the next move completes this one or puts
        the recorded Champion back.
        """
        connection = await asyncio.to_thread(connect, self._database_url, "promotion", TIMEOUTS)
        try:
            lock = await asyncio.to_thread(_Lock, connection, model)
            registered = await registered_model(self._registry, model)
            await asyncio.to_thread(lock.belongs_to, registered)
            await self._note_again(lock, registered)
            yield lock, registered
            await asyncio.to_thread(connection.commit)
        except LockNotAvailable as error:
            raise unavailable(error, f"moving the aliases of {model}", TIMEOUTS) from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise Unavailable(f"the lock of {model}'s promotions was lost: {error}") from error
        finally:
            await asyncio.to_thread(connection.close)


class _Lock:
    """The locked row of a model: the Champion of its last epoch, and the one before."""

    def __init__(self, connection: Connection, model: str) -> None:
        self.model = model
        self._cursor = connection.cursor()
        self._cursor.execute(
            "INSERT INTO mesh.promotions (model) VALUES (%s) ON CONFLICT DO NOTHING", (model,)
        )
        self._cursor.execute(
            "SELECT champion, previous, epoch, created_at, serve FROM mesh.promotions"
            " WHERE model = %s FOR UPDATE",
            (model,),
        )
        row = self._cursor.fetchone()
        assert row is not None
        self.recorded = Promoted(str(row[0]), str(row[1]), int(row[2]))
        self._created_at = int(row[3])
        self.serve: bool | None = row[4]
        """Whether the fleet is to serve the Champion of the last epoch; None: unknown."""

    def belongs_to(self, registered: RegisteredModel) -> None:
        """Forget what was recorded of an earlier model of the same name."""
        if self._created_at == registered.created_at:
            return
        if self._created_at:
            self.recorded, self.serve = Promoted("", "", self.recorded.epoch), None
        self._cursor.execute(
            "UPDATE mesh.promotions SET champion = %s, previous = %s, created_at = %s"
            " WHERE model = %s",
            (self.champion, self.previous, registered.created_at, self.model),
        )

    @property
    def champion(self) -> str:
        """Champion of the last epoch; empty when none was recorded yet."""
        return self.recorded.champion

    @property
    def previous(self) -> str:
        """The Champion before that one; empty when there was none."""
        return self.recorded.previous

    async def check(self) -> None:
        """Raise psycopg2.OperationalError when the lock is lost with its connection."""
        await asyncio.to_thread(self._cursor.execute, "SELECT 1")

    async def record(self, champion: str, previous: str, serve: bool | None = None) -> Promoted:
        """Write the next epoch, which holds once the transaction is committed."""
        return await asyncio.to_thread(self._record, champion, previous, serve)

    def _record(self, champion: str, previous: str, serve: bool | None) -> Promoted:
        self._cursor.execute(
            "UPDATE mesh.promotions SET epoch = epoch + 1, champion = %s, previous = %s,"
            " serve = %s, changed_at = now() WHERE model = %s RETURNING epoch",
            (champion, previous, serve, self.model),
        )
        row = self._cursor.fetchone()
        assert row is not None
        return Promoted(champion, previous, int(row[0]))
