"""Downloaded model versions on disk: complete or not there, and never changed."""

import asyncio
import json
import logging
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from inference_svc.versions.identity import VersionId, VersionInfo
from inference_svc.versions.signature_check import SignatureCheck
from service_kit.errors import Aborted
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import ModelVersion, RegisteredModel
from service_kit.signing.keys import SignatureRefused, TrustedKeys

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
class CachedVersion:
    """A version on disk. `fresh` is True when it was downloaded by this call."""

    info: VersionInfo
    folder: Path
    fresh: bool


class ModelCache:
    """Versions under `<root>/<model>/<number>-<digest of the source>/`.

    Used by one preparation at a time.
    """

    def __init__(self, root: Path, keep_versions: int, keys: TrustedKeys | None = None) -> None:
        """`keys`: those of which one has signed each version; None: no signature is asked for."""
        self.choose: Choose | None = None
        """Says which large files are downloaded; None: all."""

        self._root = root
        self._keep_versions = keep_versions
        self._signature = SignatureCheck(keys, ignored=(_INFO_FILE,))

    def open(self) -> None:
        """Create the folder and remove downloads that were not completed. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        for pattern in (f"*/*{_INCOMING}", f"*/*{_INCOMING}.partial"):
            for leftover in self._root.glob(pattern):
                shutil.rmtree(leftover)

    async def fetch(self, registry: ModelSource, name: str, wanted: VersionId) -> CachedVersion:
        """Return a version; it is downloaded unless it is in the cache.

        Raises Aborted when the number belongs to a version with another source by now, NotFound,
        Unavailable, and SignatureRefused unless the version is as the training service signed it.
        """
        cached = await asyncio.to_thread(self._read, name, wanted)
        return cached or await self._download(registry, name, wanted)

    async def _download(self, registry: ModelSource, name: str, wanted: VersionId) -> CachedVersion:
        info = await _registered(registry, name, wanted)
        folder = self.folder(name, wanted)
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming = folder.with_name(folder.name + _INCOMING)
        await registry.download(name, wanted.number, incoming, self._checked_choice(info))
        # The registry finds the files by the number, which may belong to another version by now.
        await _registered(registry, name, wanted)
        await asyncio.to_thread(self._signature.check, info, incoming)
        (incoming / _INFO_FILE).write_text(json.dumps(asdict(info)))
        self.discard(name, wanted)
        incoming.rename(folder)
        return CachedVersion(info, folder, fresh=True)

    def _checked_choice(self, info: VersionInfo) -> Choose | None:
        """Have the small files checked first: of a version that is refused, no weights come."""
        if not self._signature.asks:
            return self.choose

        def choose(folder: Path, large: Collection[str]) -> Collection[str]:
            self._signature.check(info, folder)
            return self.choose(folder, large) if self.choose else large

        return choose

    def discard(self, name: str, version: VersionId) -> None:
        """Remove a version, if it is in the cache."""
        _remove(self.folder(name, version))

    def prune(self, name: str, in_use: Collection[VersionId]) -> None:
        """Remove all but the newest versions of a model; versions in use stay."""
        if not (self._root / name).exists():
            return
        used = {version.folder for version in in_use}
        folders = [path for path in (self._root / name).iterdir() if not path.suffix]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[self._keep_versions :]:
            if folder.name not in used:
                _remove(folder)
                log.info("removed from the cache", extra={"model": name, "folder": folder.name})

    def forget(self, name: str) -> None:
        """Remove every version of a model, and its folder."""
        if (self._root / name).exists():
            shutil.rmtree(self._root / name)
            log.info("removed from the cache", extra={"model": name})

    def models(self) -> set[str]:
        """Names of the models of which a version is kept, or was."""
        return {path.name for path in self._root.iterdir() if path.is_dir()}

    def folder(self, name: str, version: VersionId) -> Path:
        """The folder of a version."""
        return self._root / name / version.folder

    def _read(self, name: str, version: VersionId) -> CachedVersion | None:
        folder = self.folder(name, version)
        try:
            info = VersionInfo(**json.loads((folder / _INFO_FILE).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            log.warning("unreadable in the cache", extra={"folder": str(folder)})
            return None
        if info.id != version:
            return None
        try:
            self._signature.check(info, folder)
        except SignatureRefused as error:
            log.warning("downloaded anew", extra={"folder": str(folder), "why": str(error)})
            return None
        return CachedVersion(info, folder, fresh=False)


async def _registered(registry: ModelSource, name: str, wanted: VersionId) -> VersionInfo:
    """Return what the registry says about a version. Raises Aborted when it is another one."""
    found = await registry.get_version(name, wanted.number)
    if found.source != wanted.source:
        raise Aborted(
            f"version {wanted.number} of {name} has its files at {found.source!r} now, not at "
            f"{wanted.source!r}: the model was deleted and made anew"
        )
    return VersionInfo(name, wanted.number, found.run_id, found.batch_id, found.source)


def _remove(folder: Path) -> None:
    if folder.exists():
        # Renamed first, so that a folder with a version's name is always complete.
        doomed = folder.with_name(folder.name + ".old" + _INCOMING)
        folder.rename(doomed)
        shutil.rmtree(doomed)
