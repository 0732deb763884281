"""Has a replica that has just started serve the versions that the fleet serves."""

import asyncio
import logging
from concurrent.futures import Executor

from inference_svc.serving.replica import Replica
from inference_svc.serving.slots import SlotKey
from inference_svc.versions.cache import ModelSource
from inference_svc.versions.identity import VersionId
from inference_svc.versions.remembered_versions import RememberedVersions
from service_kit.errors import MeshError
from service_kit.model_registry.records import RegisteredModel
from service_kit.signing.keys import SignatureRefused, TrustedKeys
from service_kit.signing.records import served_version

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Restorer:
    """Loads the served version of every model, and tries those that failed again later."""

    def __init__(
        self,
        replica: Replica,
        source: ModelSource,
        remembered: RememberedVersions,
        keys: TrustedKeys | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """`keys`: those of the control plane's records; None: the alias `Serving` counts."""
        self._keys = keys
        self._replica = replica
        self._source = source
        self._remembered = remembered
        self._first_pause_s = first_pause_s
        self._registry_seen = False
        self._missing: dict[str, VersionId] = {}

    async def restore(self, executor: Executor) -> None:
        """Load the versions that the registry says are served.

        While the registry is away, load those that this replica served last.
        """
        wanted = await self._read_registry()
        if wanted is None:
            wanted = await asyncio.to_thread(self._remembered.read)
        await self._load(wanted, executor)

    async def follow(self) -> None:
        """Try again, with growing pauses, until the registry was read and all is served."""
        pause_s = self._first_pause_s
        while self._missing or not self._registry_seen:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            wanted = await self._read_registry()
            if wanted is not None:
                await self._load(wanted, None)
            elif self._missing:
                await self._load(dict(self._missing), None)

    async def _read_registry(self) -> dict[str, VersionId] | None:
        """Return the served versions by model; None: MLflow is away."""
        try:
            models = await self._source.list_models()
        except (MeshError, LookupError, ValueError) as error:
            log.warning(
                "cannot read from MLflow which versions are served", extra={"why": str(error)}
            )
            return None
        if not self._registry_seen:
            await self._replica.forget_all_but({model.name for model in models})
        self._registry_seen = True
        served = {model.name: self._served(model) for model in models}
        return {name: version for name, version in served.items() if version.number}

    def _served(self, model: RegisteredModel) -> VersionId:
        """Return the version that the fleet serves; an empty number: none that was recorded.

        The control plane brings the replica whatever is recorded later.
        """
        try:
            ref = served_version(model, self._keys)
        except SignatureRefused as error:
            why = f"which version is served is not signed by the control plane: {error}"
            log.error("model not loaded", extra={"model": model.name, "why": why})
            return VersionId("", "")
        return VersionId(ref.version, ref.source)

    async def _load(self, wanted: dict[str, VersionId], executor: Executor | None) -> None:
        self._missing = {}
        for name, version in wanted.items():
            try:
                await self._load_one(SlotKey(name), version, executor)
            except MeshError as error:
                self._missing[name] = version
                log.error(
                    "model not loaded, will try again",
                    extra={"model": name, "version": version.number, "why": str(error)},
                )

    async def _load_one(self, slot: SlotKey, version: VersionId, executor: Executor | None) -> None:
        if self._overtaken(slot):
            return
        await self._replica.prepare(slot, version.number, version.source, executor)
        if self._overtaken(slot):
            await self._replica.abort(slot, version.number)
        else:
            await self._replica.activate(slot, version.number, version.source, steered=False)

    def _overtaken(self, slot: SlotKey) -> bool:
        """Whether the control plane has set this slot since the registry was read."""
        return self._replica.is_steered(slot)
