"""`python -m tests.chaos.rollback_process …`: a rollback killed right after one of its writes."""

import asyncio
import os
import signal
import sys
import time

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.version_change import Timings
from control_plane.models.catalog import Catalog
from control_plane.reload.coordinator import ReloadCoordinator, ReloadResult
from control_plane.reload.repairs import Repairs
from control_plane.traffic.envoy_targets import EnvoyTargets
from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.registry import Registry
from tests.unit.control_plane.twin_envoy import TOPOLOGY, TwinEnvoy
from tests.unit.control_plane.twins import TwinAnswers, TwinReplica


class KilledRegistry(Registry):
    """A registry that kills its own process right after a write to the alias or tag `last`."""

    def __init__(self, url: str, last: str) -> None:
        super().__init__(url)
        self._last = last

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        await super().set_alias(name, alias, version)
        self._kill_after(alias)

    async def tag_model(self, name: str, key: str, value: str) -> None:
        await super().tag_model(name, key, value)
        self._kill_after(key)

    def _kill_after(self, written: str) -> None:
        if written == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


async def rollback(
    database_url: str, registry: Registry, model: str, request_id: str, replica: TwinReplica
) -> ReloadResult:
    """Roll a model back by a control plane that has just started, over a fleet of one replica."""
    locks, catalog = ModelLocks(), Catalog(registry, max_age_s=0)
    coordinator = ReloadCoordinator(
        Fleet([replica]),
        registry,
        Promotions(database_url, registry),
        locks,
        Repairs(registry, locks, Timings()),
        Marks(registry),
        Timings(),
        catalog,
        EnvoyTargets(TOPOLOGY, TwinEnvoy(), locks, time.monotonic),
        # A killed control plane has kept no answer.
        TwinAnswers(),
    )
    try:
        return await coordinator.rollback(model, request_id)
    finally:
        await coordinator.close()


def main() -> None:
    """Arguments: URLs of PostgreSQL and MLflow, model, served version, request id, last write."""
    database_url, mlflow_url, model, served, request_id, last = sys.argv[1:]
    replica = TwinReplica("r1", **{model: served})
    asyncio.run(
        rollback(database_url, KilledRegistry(mlflow_url, last), model, request_id, replica)
    )


if __name__ == "__main__":
    main()
