"""Takes texts of rows out of the golden sets that older releases wrote.

Since then golden sets are made of words of the vocabulary and are marked as MADE. An old one held
up to 32 held-out texts. Its version is kept, so deleting the rows left a copy of these texts there.
Without them a replica checks the version no more than by loading it.
"""

import json
import logging

from service_kit.errors import MeshError, Unavailable
from service_kit.model_registry.records import TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from training_svc.learning.golden_file import GOLDEN_FILE, MADE

log = logging.getLogger(__name__)


async def scrub_golden_sets(registry: Registry) -> int:
    """Empty every golden set that may hold texts of rows; return how many did.

    Raises Unavailable while MLflow is away; call it again then.
    """
    scrubbed = 0
    for model in await registry.list_models():
        for version in await registry.list_versions(model.name):
            if TAG_JOB_ID not in version.tags:
                continue
            try:
                scrubbed += await _scrub(registry, model.name, version.version)
            except Unavailable:
                raise
            except (MeshError, ValueError) as error:
                # It was deleted meanwhile, or its files are none that a training writes.
                where = {"model": model.name, "version": version.version, "why": str(error)}
                log.warning("golden set was not looked at", extra=where)
    return scrubbed


async def _scrub(registry: Registry, model: str, version: str) -> bool:
    content = json.loads(await registry.read_file(model, version, GOLDEN_FILE))
    if content.get(MADE):
        return False
    scrubbed = content | {"golden": [], MADE: True}
    text = json.dumps(scrubbed, ensure_ascii=False, indent=1)
    await registry.write_file(model, version, GOLDEN_FILE, text.encode())
    log.info("golden set emptied", extra={"model": model, "version": version})
    return True
