"""The registered versions of a model, as a training needs them; for the child process."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from service_kit.model_registry.records import CHAMPION, PREVIOUS, TAG_JOB_ID, ModelVersion
from service_kit.model_registry.registry import Registry
from training_svc.child.waiting import until_available

T = TypeVar("T")

# Where mlflow.transformers puts what from_pretrained wants in one folder.
_PARTS = ("model", "components/tokenizer")


class RegisteredVersions:
    """The versions of one model; every method waits while MLflow is away."""

    def __init__(self, mlflow_url: str, model: str) -> None:
        self._url = mlflow_url
        self._model = model

    def champion(self) -> str:
        """The Champion's version; empty when there is none."""
        return self._alias(CHAMPION)

    def previous(self) -> str:
        """The version that was Champion before; empty when there is none."""
        return self._alias(PREVIOUS)

    def of_job(self, job_id: str) -> ModelVersion | None:
        """The version that a job has registered, if it has.

        A request that MLflow carried out late may have registered it twice: the first one stays.
        """

        async def find(registry: Registry) -> ModelVersion | None:
            found = await registry.versions_with_tag(self._model, TAG_JOB_ID, job_id)
            for second in found[:-1]:
                await registry.unregister(self._model, second.version)
            return found[-1] if found else None

        return self._call(find)

    def ensure_model(self) -> None:
        """Create the registered model unless it is there."""
        self._call(lambda registry: registry.ensure_model(self._model))

    def fetch(self, version: str, folder: Path) -> Path:
        """Download a version to `folder`, in the layout of from_pretrained; done once only."""
        if not folder.exists():
            download = folder.with_name(folder.name + ".download")
            self._call(lambda registry: registry.download(self._model, version, download))
            for part in _PARTS:
                for path in sorted((download / part).iterdir()):
                    path.rename(download / path.name)
            for part in _PARTS:
                shutil.rmtree(download / part.partition("/")[0], ignore_errors=True)
            download.rename(folder)
        return folder

    def _alias(self, alias: str) -> str:
        found = self._call(lambda registry: registry.find_model(self._model))
        return found.aliases.get(alias, "") if found else ""

    def _call(self, work: Callable[[Registry], Awaitable[T]]) -> T:
        async def once() -> T:
            registry = Registry(self._url)
            try:
                return await work(registry)
            finally:
                await registry.close()

        return until_available(lambda: asyncio.run(once()), "MLflow's registry")
