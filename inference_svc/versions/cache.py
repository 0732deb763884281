"""Downloaded model versions on disk: complete or not there, and never changed."""

import json
import logging
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from service_kit.errors import Unavailable
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import ModelVersion, RegisteredModel

log = logging.getLogger(__name__)

_INFO_FILE = "mesh-version.json"
_INCOMING = ".incoming"


class ModelSource(Protocol):
    """The part of service_kit.model_registry.registry.Registry that a replica uses."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None. Raises Unavailable."""

    async def list_models(self) -> list[RegisteredModel]:
        """Return every registered model. Raises Unavailable."""

    async def get_version(self, name: str, version: str) -> ModelVersion:
        """Return one version. Raises NotFound, Unavailable."""

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        """Download a version's files into `target`. Raises Unavailable."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True)
class VersionInfo:
    """Identity of a version; `source` tells two versions of the same number apart."""

    name: str
    version: str
    run_id: str
    batch_id: str
    source: str


@dataclass(frozen=True)
class CachedVersion:
    """A version on disk. `fresh` is True when it was downloaded by this call."""

    info: VersionInfo
    folder: Path
    fresh: bool


class ModelCache:
    """Versions under `<root>/<model>/<version>/`. Used by one preparation at a time."""

    def __init__(self, root: Path, keep_versions: int) -> None:
        self.choose: Choose | None = None
        """Says which large files are downloaded; None: all."""

        self._root = root
        self._keep_versions = keep_versions

    def open(self) -> None:
        """Create the folder and remove downloads that were not completed. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        for pattern in (f"*/*{_INCOMING}", f"*/*{_INCOMING}.partial"):
            for leftover in self._root.glob(pattern):
                shutil.rmtree(leftover)

    async def fetch(
        self, source: ModelSource, name: str, version: str, trust: bool = False
    ) -> CachedVersion:
        """Return a version; it is downloaded unless it is in the cache.

        A cached version is taken only after the registry has confirmed that it is still the same.
        With `trust`, or while the registry is away, it is taken without that. Raises NotFound,
        Unavailable.
        """
        cached = self._read(name, version)
        if cached and trust:
            return cached
        try:
            registered = await source.get_version(name, version)
        except Unavailable:
            if cached:
                return cached
            raise
        info = VersionInfo(name, version, registered.run_id, registered.batch_id, registered.source)
        if cached and cached.info == info:
            return cached
        return await self._download(source, info)

    async def _download(self, source: ModelSource, info: VersionInfo) -> CachedVersion:
        folder = self._folder(info.name, info.version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming = folder.with_name(folder.name + _INCOMING)
        await source.download(info.name, info.version, incoming, self.choose)
        (incoming / _INFO_FILE).write_text(json.dumps(asdict(info)))
        self.discard(info.name, info.version)
        incoming.rename(folder)
        return CachedVersion(info, folder, fresh=True)

    def discard(self, name: str, version: str) -> None:
        """Remove a version, if it is in the cache."""
        folder = self._folder(name, version)
        if folder.exists():
            # Renamed first, so that a folder with a version's name is always complete.
            doomed = folder.with_name(folder.name + ".old" + _INCOMING)
            folder.rename(doomed)
            shutil.rmtree(doomed)

    def prune(self, name: str, in_use: Collection[str]) -> None:
        """Remove all but the newest versions of a model; versions in use stay."""
        folders = [path for path in (self._root / name).iterdir() if not path.suffix]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[self._keep_versions :]:
            if folder.name not in in_use:
                self.discard(name, folder.name)
                log.info("removed from the cache", extra={"model": name, "version": folder.name})

    def _read(self, name: str, version: str) -> CachedVersion | None:
        folder = self._folder(name, version)
        try:
            info = VersionInfo(**json.loads((folder / _INFO_FILE).read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.warning("unreadable in the cache", extra={"folder": str(folder)})
            return None
        return CachedVersion(info, folder, fresh=False)

    def _folder(self, name: str, version: str) -> Path:
        return self._root / name / version
