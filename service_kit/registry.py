"""The model registry, through MLflow's REST API.

Importing mlflow takes seconds and hundreds of megabytes; resolving an alias and downloading a
version are a few HTTP calls.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from service_kit.errors import MeshError, NotFound, Unavailable

log = logging.getLogger(__name__)

CHAMPION = "Champion"
CHALLENGER = "Challenger"
PREVIOUS = "Previous"
SERVING = "Serving"

TAG_BATCH_ID = "mesh.batch_id"
TAG_JOB_ID = "mesh.job_id"
TAG_RELOADED_AT = "mesh.reloaded_at"
TAG_FIRST_ANSWER_AT = "mesh.first_answer_at"
# The paired comparison on held-out rows that a version was registered with.
TAG_COMPARED_WITH = "mesh.compared_with"
TAG_P_VALUE = "mesh.p_value"
TAG_P_WORSE = "mesh.p_worse"
TAG_DISAGREEMENT = "mesh.disagreement"
TAG_HELD_OUT_ROWS = "mesh.held_out_rows"

REQUEST_TIMEOUT_S = 5.0
DOWNLOAD_TIMEOUT_S = 60.0
_PAGE = 200
_API = "/api/2.0/mlflow"
_ARTIFACTS_API = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model with its aliases (alias → version) and tags."""

    name: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def batch_id(self) -> str:
        """Batch whose rows started the training of this version; empty when unknown."""
        return self.tags.get(TAG_BATCH_ID, "")


class ModelFinder(Protocol):
    """The part of the registry that `registered_model` asks."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""


async def registered_model(finder: ModelFinder, name: str) -> RegisteredModel:
    """Return the registered model. Raises NotFound."""
    found = await finder.find_model(name)
    if found is None:
        raise NotFound(f"no model {name!r} is registered")
    return found


class Registry:
    """Reads and changes the registry. Every method raises Unavailable when MLflow is away."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        # Reading the certificates of the authorities takes 0.1 s of a start, so only if needed.
        secure = self._url.startswith("https:")
        self._http = httpx.AsyncClient(
            timeout=REQUEST_TIMEOUT_S, transport=transport, verify=secure
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""
        try:
            answer = await self._call("GET", "registered-models/get", {"name": name})
        except NotFound:
            return None
        return _model(answer["registered_model"])

    async def list_models(self) -> list[RegisteredModel]:
        """Return every registered model with its aliases, ordered by name."""
        models: list[RegisteredModel] = []
        token = ""
        while True:
            query = {"max_results": str(_PAGE)} | ({"page_token": token} if token else {})
            answer = await self._call("GET", "registered-models/search", query)
            models += map(_model, answer.get("registered_models", []))
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(models, key=lambda model: model.name)

    async def ensure_model(self, name: str) -> None:
        """Create the registered model unless it is there."""
        if await self.find_model(name) is None:
            try:
                await self._call("POST", "registered-models/create", {"name": name})
            except _Taken:
                return  # somebody else was quicker

    async def get_version(self, name: str, version: str) -> ModelVersion:
        """Return one version. Raises NotFound."""
        query = {"name": name, "version": version}
        answer = await self._call("GET", "model-versions/get", query)
        return _version(answer["model_version"])

    async def versions_with_tag(self, name: str, key: str, value: str) -> list[ModelVersion]:
        """Return the versions of a model that carry this tag, newest first."""
        query = {
            "filter": f"name='{name}' and tags.`{key}`='{value}'",
            "max_results": str(_PAGE),
        }
        answer = await self._call("GET", "model-versions/search", query)
        versions = [_version(item) for item in answer.get("model_versions", [])]
        return sorted(versions, key=lambda found: -int(found.version))

    async def list_versions(self, name: str) -> list[ModelVersion]:
        """Return every version of a model, newest first."""
        versions: list[ModelVersion] = []
        token = ""
        while True:
            query = {"filter": f"name='{name}'", "max_results": str(_PAGE)}
            query |= {"page_token": token} if token else {}
            answer = await self._call("GET", "model-versions/search", query)
            versions += map(_version, answer.get("model_versions", []))
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(versions, key=lambda found: -int(found.version))

    async def delete_version(self, version: ModelVersion) -> None:
        """Delete a version with its files; its run stays. Done again after a failure, it goes on.

        The version goes last: without it nobody would find the files.
        """
        query = {"name": version.name, "version": version.version}
        try:
            answer = await self._call("GET", "model-versions/get-download-uri", query)
            base, path = self._artifact_location(answer["artifact_uri"])
            await self._send("DELETE", f"{base}{_ARTIFACTS_API}/{quote(path)}")
        except NotFound:
            log.info("no files", extra={"model": version.name, "version": version.version})
        scheme, _, logged_model = version.source.partition("models:/")
        if not scheme and "/" not in logged_model:
            with suppress(NotFound):
                await self._call("DELETE", f"logged-models/{logged_model}", {})
        await self.unregister(version.name, version.version)

    async def unregister(self, name: str, version: str) -> None:
        """Delete a version and leave its files; nothing to do when it is not there."""
        with suppress(NotFound):
            await self._call("DELETE", "model-versions/delete", {"name": name, "version": version})

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version. Last write wins: see promotion.py for who may."""
        body = {"name": name, "alias": alias, "version": version}
        await self._call("POST", "registered-models/alias", body)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; nothing to do when it is not there."""
        try:
            await self._call("DELETE", "registered-models/alias", {"name": name, "alias": alias})
        except NotFound:
            return

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        body = {"name": name, "version": version, "key": key, "value": value}
        await self._call("POST", "model-versions/set-tag", body)

    async def tag_model(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        await self._call(
            "POST", "registered-models/set-tag", {"name": name, "key": key, "value": value}
        )

    async def end_run(self, run_id: str, status: str) -> None:
        """Mark a run as ended: FINISHED, FAILED or KILLED. Raises NotFound."""
        body = {"run_id": run_id, "status": status, "end_time": str(int(time.time() * 1000))}
        await self._call("POST", "runs/update", body)

    async def download(self, name: str, version: str, target: Path) -> None:
        """Download the files of a version into `target`, which appears only when complete."""
        answer = await self._call(
            "GET", "model-versions/get-download-uri", {"name": name, "version": version}
        )
        base, path = self._artifact_location(answer["artifact_uri"])
        partial = target.with_name(target.name + ".partial")
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        partial.mkdir(parents=True)
        await self._download_folder(base, path, partial)
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        partial.rename(target)

    def _artifact_location(self, uri: str) -> tuple[str, str]:
        """Split an artifact URI into the server's base URL and the path on it."""
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https") and parts.path.startswith(f"{_ARTIFACTS_API}/"):
            path = parts.path.removeprefix(_ARTIFACTS_API)
            return f"{parts.scheme}://{parts.netloc}", path.strip("/")
        if parts.scheme != "mlflow-artifacts":
            raise MeshError(
                f"artifacts at {uri!r} cannot be read; mlflow-artifacts: or the http: address of "
                "an artifact server is needed"
            )
        # Without a host the tracking server serves the artifacts itself.
        base = f"{urlsplit(self._url).scheme}://{parts.netloc}" if parts.netloc else self._url
        return base, parts.path.strip("/")

    async def _download_folder(self, base: str, path: str, target: Path) -> None:
        answer = await self._send("GET", base + _ARTIFACTS_API, params={"path": path})
        for entry in answer.json().get("files", []):
            name = entry["path"]
            if "/" in name or name in ("", ".", ".."):
                raise MeshError(f"the artifact server named a file {name!r}")
            if entry.get("is_dir"):
                (target / name).mkdir()
                await self._download_folder(base, f"{path}/{name}", target / name)
            else:
                await self._download_file(f"{base}{_ARTIFACTS_API}/{path}/{name}", target / name)

    async def _download_file(self, url: str, target: Path) -> None:
        try:
            async with self._http.stream(
                "GET", quote(url, safe=":/"), timeout=DOWNLOAD_TIMEOUT_S
            ) as response:
                response.raise_for_status()
                with target.open("wb") as file:
                    async for chunk in response.aiter_bytes(1 << 20):
                        await asyncio.to_thread(file.write, chunk)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow's artifact {target.name} cannot be read: {error}") from error

    async def _call(self, method: str, path: str, values: Mapping[str, str]) -> Any:
        key = "params" if method == "GET" else "json"
        answer = await self._send(method, f"{self._url}{_API}/{path}", **{key: values})
        return answer.json()

    async def _send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow is away: {error or type(error).__name__}") from error
        if response.is_success:
            return response
        code, message = _error(response)
        if response.status_code == 404 or code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(message)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise _Taken(message)
        if response.status_code >= 500 or response.status_code == 429:
            raise Unavailable(f"MLflow answered {response.status_code}: {message}")
        raise MeshError(f"MLflow refused: {message}")


class _Taken(MeshError):
    """The name is taken."""


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        body = response.json()
        return body.get("error_code", ""), body.get("message", "")
    except ValueError:
        return "", response.text[:200]


def _pairs(items: list[dict[str, str]] | None, key: str, value: str) -> dict[str, str]:
    return {item[key]: item.get(value, "") for item in items or []}


def _model(data: Mapping[str, Any]) -> RegisteredModel:
    return RegisteredModel(
        name=data["name"],
        aliases=_pairs(data.get("aliases"), "alias", "version"),
        tags=_pairs(data.get("tags"), "key", "value"),
    )


def _version(data: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=data["name"],
        version=str(data["version"]),
        run_id=data.get("run_id", ""),
        source=data.get("source", ""),
        tags=_pairs(data.get("tags"), "key", "value"),
    )
