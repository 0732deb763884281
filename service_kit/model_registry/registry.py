"""The model registry, through MLflow's REST API.

The services do without the package mlflow, whose import takes seconds and hundreds of megabytes:
resolving an alias and downloading a version take a few HTTP calls.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from service_kit.errors import NotFound
from service_kit.model_registry.artifacts import Artifacts, Choose
from service_kit.model_registry.mlflow_api import MlflowApi, NameTaken
from service_kit.model_registry.records import (
    ModelVersion,
    RegisteredModel,
    model_of,
    version_of,
)
from service_kit.model_registry.runs import Runs

log = logging.getLogger(__name__)

_PAGE = 200


class Registry:
    """Reads and changes the registry. Every method raises Unavailable when MLflow is away."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        auth: httpx.Auth | None = None,
    ) -> None:
        """`auth` adds this part's token to each request."""
        self._api = MlflowApi(url, transport, auth)
        self._artifacts = Artifacts(self._api)
        self.runs = Runs(self._api)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""
        try:
            answer = await self._api.call("GET", "registered-models/get", {"name": name})
        except NotFound:
            return None
        return model_of(answer["registered_model"])

    async def list_models(self) -> list[RegisteredModel]:
        """Return every registered model with its aliases, ordered by name."""
        found = await self._search("registered-models/search", "registered_models", {})
        return sorted(map(model_of, found), key=lambda model: model.name)

    async def ensure_model(self, name: str) -> None:
        """Create the registered model unless it exists."""
        if await self.find_model(name) is None:
            try:
                await self._api.call("POST", "registered-models/create", {"name": name})
            except NameTaken:
                return  # another process has created it meanwhile

    async def get_version(self, name: str, version: str) -> ModelVersion:
        """Return one version. Raises NotFound."""
        query = {"name": name, "version": version}
        answer = await self._api.call("GET", "model-versions/get", query)
        return version_of(answer["model_version"])

    async def versions_with_tag(self, name: str, key: str, value: str) -> list[ModelVersion]:
        """Return the versions of a model that carry this tag, newest first."""
        query = {
            "filter": f"name='{name}' and tags.`{key}`='{value}'",
            "max_results": str(_PAGE),
        }
        answer = await self._api.call("GET", "model-versions/search", query)
        versions = [version_of(item) for item in answer.get("model_versions", [])]
        return sorted(versions, key=lambda version: -int(version.version))

    async def list_versions(self, name: str) -> list[ModelVersion]:
        """Return every version of a model, newest first."""
        query = {"filter": f"name='{name}'"}
        found = await self._search("model-versions/search", "model_versions", query)
        return sorted(map(version_of, found), key=lambda version: -int(version.version))

    async def delete_version(self, version: ModelVersion) -> None:
        """Delete a version and its files; its run stays. A repeat after a failure does the rest.

        The version is deleted last, because its files cannot be found without it.
        """
        try:
            await self._artifacts.delete(version.name, version.version)
        except NotFound:
            log.info(
                "the version has no files",
                extra={"model": version.name, "version": version.version},
            )
        scheme, _, logged_model = version.source.partition("models:/")
        if not scheme and "/" not in logged_model:
            with suppress(NotFound):
                await self._api.call("DELETE", f"logged-models/{logged_model}", {})
        await self.unregister(version.name, version.version)

    async def unregister(self, name: str, version: str) -> None:
        """Delete a version, if it exists, and leave its files."""
        with suppress(NotFound):
            await self._api.call(
                "DELETE", "model-versions/delete", {"name": name, "version": version}
            )

    async def delete_model(self, name: str) -> None:
        """Delete a registered model, if it exists, with its aliases and tags; files stay."""
        with suppress(NotFound):
            await self._api.call("DELETE", "registered-models/delete", {"name": name})

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version. The last write wins, so only promotion.py may move the
        aliases that it guards.
        """
        body = {"name": name, "alias": alias, "version": version}
        await self._api.call("POST", "registered-models/alias", body)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias, if it exists."""
        try:
            await self._api.call(
                "DELETE", "registered-models/alias", {"name": name, "alias": alias}
            )
        except NotFound:
            return

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        body = {"name": name, "version": version, "key": key, "value": value}
        await self._api.call("POST", "model-versions/set-tag", body)

    async def tag_model(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        await self._api.call(
            "POST", "registered-models/set-tag", {"name": name, "key": key, "value": value}
        )

    async def end_run(self, run_id: str, status: str) -> None:
        """Mark a run as ended: FINISHED, FAILED or KILLED. Raises NotFound."""
        body = {"run_id": run_id, "status": status, "end_time": str(int(time.time() * 1000))}
        await self._api.call("POST", "runs/update", body)

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        """Download the files of a version into `target`; it appears only once it is complete.

        `choose` says which large files are left out; without it, all are downloaded.
        """
        await self._artifacts.download(name, version, target, choose)

    async def read_file(self, name: str, version: str, file: str) -> bytes:
        """Return one small file of a version. Raises NotFound."""
        return await self._artifacts.read(name, version, file)

    async def write_file(self, name: str, version: str, file: str, content: bytes) -> None:
        """Replace one small file of a version."""
        await self._artifacts.write(name, version, file, content)

    async def _search(self, path: str, key: str, query: Mapping[str, str]) -> list[Any]:
        """Return the items under `key` of every page of a search."""
        query = {"max_results": str(_PAGE), **query}
        return [item async for item in self._api.items("GET", path, key, query)]
