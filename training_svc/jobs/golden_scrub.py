"""Takes texts of rows out of the golden sets that older releases wrote.

Since then golden sets are made of words of the vocabulary and are marked as MADE. An old one held
up to 32 held-out texts. Its version is kept, so deleting the rows left a copy of these texts there.
Without them a replica checks the version no more than by loading it.
"""

import json
import logging

from service_kit.errors import MeshError, NotFound, Unavailable
from service_kit.model_registry.records import TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from service_kit.signing.keys import SigningKey, TrustedKeys
from service_kit.signing.manifest import MANIFEST_FILE, read_manifest
from training_svc.learning.golden_file import GOLDEN_FILE, MADE

log = logging.getLogger(__name__)


async def scrub_golden_sets(registry: Registry, key: SigningKey | None = None) -> int:
    """Empty every golden set that may hold texts of rows; return how many did.

    A version whose manifest `key` has signed is signed again. Raises Unavailable
    while MLflow is away; call it again then.
    """
    scrubbed = 0
    for model in await registry.list_models():
        for version in await registry.list_versions(model.name):
            if TAG_JOB_ID not in version.tags:
                continue
            try:
                scrubbed += await _scrub(registry, model.name, version.version, key)
            except Unavailable:
                raise
            except (MeshError, ValueError) as error:
                # It was deleted meanwhile, or its files are none that a training writes.
                where = {"model": model.name, "version": version.version, "why": str(error)}
                log.warning("golden set was not looked at", extra=where)
    return scrubbed


async def _scrub(registry: Registry, model: str, version: str, key: SigningKey | None) -> bool:
    content = json.loads(await registry.read_file(model, version, GOLDEN_FILE))
    if content.get(MADE):
        return False
    scrubbed = content | {"golden": [], MADE: True}
    new = json.dumps(scrubbed, ensure_ascii=False, indent=1).encode()
    if key is not None:
        # The manifest goes first: after a crash in between, the golden set is emptied once more.
        await _sign_again(registry, model, version, new, key)
    await registry.write_file(model, version, GOLDEN_FILE, new)
    log.info("golden set emptied", extra={"model": model, "version": version})
    return True


async def _sign_again(
    registry: Registry, model: str, version: str, golden: bytes, key: SigningKey
) -> None:
    """Sign a version for its new golden set. Raises SignatureRefused unless `key` signed the old
    one; a version without a manifest stays without."""
    try:
        signed = await registry.read_file(model, version, MANIFEST_FILE)
    except NotFound:
        return
    manifest = read_manifest(signed, TrustedKeys.beside(key, None)).with_file(GOLDEN_FILE, golden)
    await registry.write_file(model, version, MANIFEST_FILE, manifest.signed(key))
    log.warning("signed again without texts of rows", extra={"model": model, "version": version})
