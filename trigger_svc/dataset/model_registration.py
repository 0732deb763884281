"""Registers each model in MLflow, so that it exists there before its first version does."""

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


class ModelRegistration:
    """Registers models that are not registered yet; `run` ends only when it is cancelled."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look for new models now."""
        self._woken.set()

    async def run(self) -> None:
        """Register models when `wake` is called, and every IDLE_S seconds."""
        failing = False
        while True:
            self._woken.clear()
            pause = IDLE_S
            try:
                await self.register_all()
                failing = False
            except MeshError as error:
                if not failing:
                    log.warning("models wait for their registration", extra={"why": str(error)})
                failing, pause = True, RETRY_S
            except Exception:
                log.exception("registration failed; it goes on")
                pause = RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def register_all(self) -> None:
        """Register every model that is not registered yet. Raises MeshError."""
        for model in await self._database.run(_unregistered_models):
            await self._registry.ensure_model(model)
            await self._database.run(partial(_mark_registered, model))


def _unregistered_models(cursor: Cursor) -> list[str]:
    cursor.execute(QUERIES["unregistered_models"])
    return [row[0] for row in cursor.fetchall()]


def _mark_registered(model: str, cursor: Cursor) -> None:
    cursor.execute(QUERIES["model_registered"], {"model": model})
