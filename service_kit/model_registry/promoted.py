"""The latest promotions of a model, as a tag of the model: which of them the fleet is to serve.

The tag is written before the alias Champion moves, so it holds the promotion before as well: the
one that counts is the one of the version that is the Champion.
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from service_kit.model_registry.records import CHAMPION, RegisteredModel

log = logging.getLogger(__name__)

TAG_PROMOTED = "mesh.promoted"


@dataclass(frozen=True)
class PromotedVersion:
    """One promotion."""

    version: str
    serve: bool
    """The fleet is to serve the version. False: the promotion was to touch no traffic."""

    at: str
    """Moment, ISO 8601 in UTC; no two promotions of a model have the same."""

    @property
    def moment(self) -> datetime:
        """The moment of the promotion."""
        return datetime.fromisoformat(self.at)


def promotions_of(model: RegisteredModel) -> tuple[PromotedVersion, ...]:
    """Return the noted promotions of a model, newest first."""
    try:
        return tuple(
            PromotedVersion(str(item["version"]), bool(item["serve"]), str(item["at"]))
            for item in json.loads(model.tags.get(TAG_PROMOTED, "[]"))
            if datetime.fromisoformat(item["at"])
        )
    except (ValueError, TypeError, KeyError):
        log.warning("unreadable, ignored", extra={"model": model.name, "tag": TAG_PROMOTED})
        return ()


def promotion_of_champion(model: RegisteredModel) -> PromotedVersion | None:
    """Return the promotion that made the Champion; None: the mesh noted none."""
    champion = model.aliases.get(CHAMPION, "")
    return next((item for item in promotions_of(model) if item.version == champion), None)


def promoted_tag(model: RegisteredModel, version: str, serve: bool) -> str:
    """Return the value of the tag for a promotion that is about to move the alias Champion.

    It is the tag as it is when the same promotion has been noted already.
    """
    noted = promotions_of(model)
    if noted and (noted[0].version, noted[0].serve) == (version, serve):
        return model.tags[TAG_PROMOTED]
    made = promotion_of_champion(model)
    new = PromotedVersion(version, serve, datetime.now(UTC).isoformat())
    return json.dumps([asdict(new)] + ([asdict(made)] if made else []))
