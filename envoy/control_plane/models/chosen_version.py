"""What a Reload or a Rollback chose to serve, as a tag of the model.

The tag is written before the alias Serving moves, so it counts only while the fleet serves the
version in it. A later promotion that is to be served ends it.
"""

import json
import logging
from dataclasses import asdict, dataclass

from service_kit.model_registry.promoted import promotion_of_champion
from service_kit.model_registry.records import SERVING, RegisteredModel

log = logging.getLogger(__name__)

TAG_CHOSEN = "mesh.chosen"
RELOAD, ROLLBACK, NOTHING = "reload", "rollback", ""


@dataclass(frozen=True)
class ChosenVersion:
    """A choice: `how` is RELOAD (with a version), ROLLBACK while its aliases move, or NOTHING."""

    how: str = NOTHING
    version: str = ""
    promotion: str = ""
    """Moment of the Champion's promotion, which the choice overrides."""

    @classmethod
    def over(cls, model: RegisteredModel, how: str, version: str) -> "ChosenVersion":
        """Return the choice of a version instead of the present Champion."""
        return cls(how, version, _promoted_at(model))

    def tag(self) -> str:
        """Return the value of the tag."""
        return json.dumps(asdict(self))


NOTHING_CHOSEN = ChosenVersion()


def chosen_of(model: RegisteredModel) -> ChosenVersion:
    """Return the choice that holds for a model; NOTHING_CHOSEN: none does."""
    try:
        values = json.loads(model.tags.get(TAG_CHOSEN, "{}"))
        chosen = ChosenVersion(**values)
    except (ValueError, TypeError):
        log.warning("unreadable, ignored", extra={"model": model.name, "tag": TAG_CHOSEN})
        return NOTHING_CHOSEN
    if chosen.version != model.aliases.get(SERVING, ""):
        return NOTHING_CHOSEN
    return chosen if chosen.promotion == _promoted_at(model) else NOTHING_CHOSEN


def _promoted_at(model: RegisteredModel) -> str:
    promotion = promotion_of_champion(model)
    return promotion.at if promotion else ""
