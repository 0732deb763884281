"""A model's traffic split as it is kept: a tag of the registered model, so that it survives."""

import json
import logging
from dataclasses import asdict, dataclass

from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from service_kit.model_registry.records import SERVING, RegisteredModel

log = logging.getLogger(__name__)

TAG_TRAFFIC = "mesh.traffic"


@dataclass(frozen=True)
class StoredSplit:
    """The split that was asked for, and the version that is tried; empty: none."""

    split: Split = ALL_TO_THE_CHAMPION
    version: str = ""

    def tag(self) -> str:
        """The value of the tag."""
        return json.dumps(asdict(self.split) | {"version": self.version})


NO_SPLIT = StoredSplit()


def stored_split_of(model: RegisteredModel) -> StoredSplit:
    """Read the tag; a version that serves already is on trial no more."""
    text = model.tags.get(TAG_TRAFFIC)
    if not text:
        return NO_SPLIT
    try:
        values = json.loads(text)
        version = str(values.pop("version"))
        split = Split(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("unreadable, ignored", extra={"model": model.name, "tag": TAG_TRAFFIC})
        return NO_SPLIT
    if not version or version == model.aliases.get(SERVING):
        return NO_SPLIT
    return StoredSplit(split, version)
