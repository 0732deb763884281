"""The files of a version, on MLflow's artifact server."""

import asyncio
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from service_kit.errors import MeshError, Unavailable
from service_kit.model_registry.mlflow_api import MlflowApi

# Gets the folder with a version's small files, and the paths of the large ones, which it lacks;
# returns those that are to be downloaded as well.
Choose = Callable[[Path, Collection[str]], Collection[str]]

# Ends of the names of files of weights.
LARGE_FILES = (".bin", ".safetensors")
_ARTIFACTS_API = "/api/2.0/mlflow-artifacts/artifacts"


class Artifacts:
    """Reads, replaces and deletes files. Each method raises Unavailable when the server is away."""

    def __init__(self, api: MlflowApi) -> None:
        self._api = api

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        """Download the files of a version into `target`; it appears only once it is complete.

        `choose` says which large files are left out; without it, all are downloaded.
        """
        base, path = await self._place(name, version)
        partial = target.with_name(target.name + ".partial")
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        partial.mkdir(parents=True)
        large: list[str] = []
        await self._download_folder(base, path, partial, "", None if choose is None else large)
        for file in choose(partial, large) if choose is not None else ():
            await self._download_file(f"{base}{_ARTIFACTS_API}/{path}/{file}", partial / file)
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        partial.rename(target)

    async def read(self, name: str, version: str, file: str) -> bytes:
        """Return one small file of a version. Raises NotFound."""
        base, path = await self._place(name, version)
        answer = await self._api.send("GET", f"{base}{_ARTIFACTS_API}/{quote(path)}/{quote(file)}")
        return answer.content

    async def write(self, name: str, version: str, file: str, content: bytes) -> None:
        """Replace one small file of a version."""
        base, path = await self._place(name, version)
        url = f"{base}{_ARTIFACTS_API}/{quote(path)}/{quote(file)}"
        await self._api.send("PUT", url, content=content)

    async def delete(self, name: str, version: str) -> None:
        """Delete the files of a version. Raises NotFound when there are none."""
        base, path = await self._place(name, version)
        await self._api.send("DELETE", f"{base}{_ARTIFACTS_API}/{quote(path)}")

    async def _place(self, name: str, version: str) -> tuple[str, str]:
        answer = await self._api.call(
            "GET", "model-versions/get-download-uri", {"name": name, "version": version}
        )
        return self._location(answer["artifact_uri"])

    def _location(self, uri: str) -> tuple[str, str]:
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
        # A URI without a host means that the tracking server serves the artifacts itself.
        base = (
            f"{urlsplit(self._api.url).scheme}://{parts.netloc}" if parts.netloc else self._api.url
        )
        return base, parts.path.strip("/")

    async def _download_folder(
        self, base: str, root: str, target: Path, folder: str, large: list[str] | None
    ) -> None:
        """Download `folder` of a version; large files are put on the list instead, if there is one.

        `root` is the place of the version on the server, `target` its folder here.
        """
        answer = await self._api.send(
            "GET", base + _ARTIFACTS_API, params={"path": f"{root}/{folder}".rstrip("/")}
        )
        for entry in answer.json().get("files", []):
            name = entry["path"]
            if "/" in name or name in ("", ".", ".."):
                raise MeshError(f"the artifact server named a file {name!r}")
            inside = f"{folder}/{name}".lstrip("/")
            if entry.get("is_dir"):
                (target / inside).mkdir()
                await self._download_folder(base, root, target, inside, large)
            elif large is not None and name.endswith(LARGE_FILES):
                large.append(inside)
            else:
                await self._download_file(
                    f"{base}{_ARTIFACTS_API}/{root}/{inside}", target / inside
                )

    async def _download_file(self, url: str, target: Path) -> None:
        try:
            async with self._api.stream(quote(url, safe=":/")) as response:
                with target.open("wb") as file:
                    async for chunk in response.aiter_bytes(1 << 20):
                        await asyncio.to_thread(file.write, chunk)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow's artifact {target.name} cannot be read: {error}") from error
