"""A model's traffic split as it is stored: a tag of the registered model, so that it outlives the
control plane's process."""

import json
import logging
from dataclasses import asdict, dataclass, field

from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef

log = logging.getLogger(__name__)

TAG_TRAFFIC = "mesh.traffic"


@dataclass(frozen=True)
class StoredSplit:
    """The split that was set, and the version that is the Challenger in it; empty: none."""

    split: Split = ALL_TO_THE_CHAMPION
    ref: VersionRef = field(default_factory=VersionRef)

    @property
    def version(self) -> str:
        """Number of the Challenger; empty: none."""
        return self.ref.version

    def tag(self) -> str:
        """Return the value of the tag."""
        return json.dumps(asdict(self.split) | asdict(self.ref))


NO_SPLIT = StoredSplit()


def stored_split_of(model: RegisteredModel) -> StoredSplit:
    """Read a model's tag.

    NO_SPLIT when there is none, when it cannot be read, or when the fleet serves its version by
    now, which is then no Challenger any more.
    """
    text = model.tags.get(TAG_TRAFFIC)
    if not text:
        return NO_SPLIT
    try:
        values = json.loads(text)
        version = str(values.pop("version"))
        # A tag of an older release has no source.
        source = str(values.pop("source", "")) or model.ref(version).source
        split = Split(**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("unreadable, ignored", extra={"model": model.name, "tag": TAG_TRAFFIC})
        return NO_SPLIT
    if not version or version == model.aliases.get(SERVING):
        return NO_SPLIT
    return StoredSplit(split, VersionRef(version, source))
