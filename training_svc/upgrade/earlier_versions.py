"""Signs, once, the versions in use that a release before signatures has registered."""

import asyncio
import logging
import shutil
from pathlib import Path

from service_kit.errors import MeshError, NotFound, Unavailable
from service_kit.model_registry.records import CHALLENGER, CHAMPION, PREVIOUS, SERVING
from service_kit.model_registry.registry import Registry
from service_kit.signing.first_use import FirstUse
from service_kit.signing.keys import SigningKey
from service_kit.signing.manifest import MANIFEST_FILE, Manifest, digests

log = logging.getLogger(__name__)

_ALIASES = (SERVING, CHAMPION, PREVIOUS, CHALLENGER)


class EarlierVersions:
    """Trusts the versions that have an alias when this mesh signs for the first time.

    Afterwards nothing that was not signed at its training is ever signed.
    """

    def __init__(
        self, registry: Registry, first_use: FirstUse, key: SigningKey, folder: Path
    ) -> None:
        """`folder` gets one version at a time, to read its files."""
        self._registry = registry
        self._first_use = first_use
        self._key = key
        self._folder = folder

    async def sign(self) -> int:
        """Sign them unless a key has signed before; return how many versions were signed.

        Raises Unavailable while MLflow or PostgreSQL is away; call it again then.
        """
        if await self._first_use.is_over():
            return 0
        signed = 0
        for model in await self._registry.list_models():
            versions = {model.aliases[name] for name in _ALIASES if name in model.aliases}
            for version in sorted(versions, key=int):
                extra = {"model": model.name, "version": version}
                try:
                    if await self._sign(model.name, version):
                        signed += 1
                        log.warning("a version from before signatures is signed now", extra=extra)
                except Unavailable:
                    raise
                except (MeshError, OSError) as error:
                    why = {"why": str(error)}
                    log.error("a version from before signatures is not signed", extra=extra | why)
        await self._first_use.note()
        return signed

    async def _sign(self, model: str, version: str) -> bool:
        found = await self._registry.get_version(model, version)
        if await self._has_manifest(model, version):
            return False
        try:
            await self._registry.download(model, version, self._folder)
            files = await asyncio.to_thread(digests, self._folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        about = {"signed": "at the upgrade to a release with signatures"}
        manifest = Manifest(model, found.source, found.run_id, files, about)
        content = manifest.signed(self._key)
        await self._registry.write_file(model, version, MANIFEST_FILE, content)
        return True

    async def _has_manifest(self, model: str, version: str) -> bool:
        try:
            return bool(await self._registry.read_file(model, version, MANIFEST_FILE))
        except NotFound:
            return False
