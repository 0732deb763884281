"""Finds and downloads the registered versions of a model, from the child process."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.records import CHAMPION, PREVIOUS, TAG_JOB_ID, ModelVersion
from service_kit.model_registry.registry import Registry
from service_kit.signing.keys import TrustedKeys
from service_kit.signing.signed_files import check_signed
from training_svc.child.waiting import until_available

T = TypeVar("T")

# The folders of an MLflow model whose files from_pretrained expects in one folder.
_PARTS = ("model", "components/tokenizer")


class RegisteredVersions:
    """The registered versions of one model. Every method waits while MLflow is away."""

    def __init__(
        self,
        mlflow_url: str,
        model: str,
        token: MlflowToken | None = None,
        keys: TrustedKeys | None = None,
    ) -> None:
        """`token` is sent to MLflow. `keys`: a version is used only if one of them has signed its
        files as they are; None: no signature is asked for."""
        self._keys = keys
        self._url = mlflow_url
        self._token = token
        self._model = model

    def champion(self) -> str:
        """The Champion's version; empty when there is none."""
        return self._alias(CHAMPION)

    def previous(self) -> str:
        """The version that was Champion before the present one; empty when there is none."""
        return self._alias(PREVIOUS)

    def of_job(self, job_id: str) -> ModelVersion | None:
        """The version that a job has registered, None before it has.

        MLflow may have registered it twice, when it carried out an earlier request late: the
        first version stays, and the others are unregistered.
        """

        async def find(registry: Registry) -> ModelVersion | None:
            versions = await registry.versions_with_tag(self._model, TAG_JOB_ID, job_id)
            # The newest version comes first.
            for later in versions[:-1]:
                await registry.unregister(self._model, later.version)
            return versions[-1] if versions else None

        return self._call(find)

    def ensure_model(self) -> None:
        """Create the registered model unless it exists."""
        self._call(lambda registry: registry.ensure_model(self._model))

    def fetch(self, version: str, folder: Path) -> Path:
        """Download a version to `folder`, in the layout of from_pretrained, unless it is there.

        Raises SignatureRefused before anything reads the files of a version that is not signed.
        """
        if not folder.exists():
            download = folder.with_name(folder.name + ".download")
            self._call(lambda registry: registry.download(self._model, version, download))
            if self._keys is not None:
                found = self._call(lambda registry: registry.get_version(self._model, version))
                check_signed(found, download, self._keys)
            for part in _PARTS:
                for path in sorted((download / part).iterdir()):
                    path.rename(download / path.name)
            for part in _PARTS:
                shutil.rmtree(download / part.partition("/")[0], ignore_errors=True)
            download.rename(folder)
        return folder

    def _alias(self, alias: str) -> str:
        model = self._call(lambda registry: registry.find_model(self._model))
        return model.aliases.get(alias, "") if model else ""

    def _call(self, work: Callable[[Registry], Awaitable[T]]) -> T:
        async def once() -> T:
            registry = Registry(self._url, auth=self._token)
            try:
                return await work(registry)
            finally:
                await registry.close()

        return until_available(lambda: asyncio.run(once()), "MLflow's registry")
