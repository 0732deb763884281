"""Makes each model known to MLflow, so that it exists before its first version does."""

import asyncio
import logging
from functools import partial

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import MeshError
from service_kit.model_registry.registry import Registry
from trigger_svc.database.queries import QUERIES

log = logging.getLogger(__name__)

RETRY_S = 5.0
IDLE_S = 60.0


class Registration:
    """Registers the models that are not yet; `run` ends only when it is cancelled."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Look for new models now."""
        self._wanted.set()

    async def run(self) -> None:
        """Register models as they come, for ever."""
        quiet = True
        while True:
            self._wanted.clear()
            pause = IDLE_S
            try:
                await self.register_all()
                quiet = True
            except MeshError as error:
                if quiet:
                    log.warning("models wait for their registration", extra={"why": str(error)})
                quiet, pause = False, RETRY_S
            except Exception:
                log.exception("registration failed; it goes on")
                pause = RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def register_all(self) -> None:
        """Register every model that is not yet. Raises MeshError."""
        for model in await self._database.run(_unregistered):
            await self._registry.ensure_model(model)
            await self._database.run(partial(_registered, model))


def _unregistered(cursor: Cursor) -> list[str]:
    cursor.execute(QUERIES["unregistered_models"])
    return [row[0] for row in cursor.fetchall()]


def _registered(model: str, cursor: Cursor) -> None:
    cursor.execute(QUERIES["model_registered"], {"model": model})
