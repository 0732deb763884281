"""Why the fleet serves another version of a model than the Champion, and what is done about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from control_plane.models.chosen_version import RELOAD, ROLLBACK, chosen_of
from service_kit.model_registry.promoted import promotion_of_champion, promotions_of
from service_kit.model_registry.records import CHAMPION, SERVING, RegisteredModel


class GapKind(Enum):
    """What the control plane does about a gap."""

    PENDING = "the switch is still to be made: the control plane makes it"
    ROLLBACK = "a rollback was broken off: the control plane completes it"
    PINNED = "somebody chose the served version: it stays"
    SHOWN = "the control plane cannot know what is wanted: it is only shown"


@dataclass(frozen=True)
class Gap:
    """The gap of one model."""

    kind: GapKind
    detail: str
    """What is so, and what happens next, for people."""

    since: datetime | None = None
    """When it arose; None: unknown."""


def gap_of(model: RegisteredModel) -> Gap | None:
    """Return the gap of a model; None: the fleet serves the Champion, or nothing was promoted."""
    name, serving = model.name, model.aliases.get(SERVING, "")
    champion = model.aliases.get(CHAMPION, "")
    if not champion:
        return _without_champion(model, serving)
    if serving == champion:
        return None
    now = f"the fleet serves version {serving}" if serving else "the fleet serves none yet"
    chosen, promotion = chosen_of(model), promotion_of_champion(model)
    if chosen.how == RELOAD:
        return Gap(
            GapKind.PINNED,
            f"version {serving} was chosen by a Reload with a version, so it stays although "
            f"version {champion} is the Champion; `mesh reload {name}` serves the Champion",
        )
    if chosen.how == ROLLBACK:
        return Gap(
            GapKind.ROLLBACK,
            f"a rollback to version {serving} was broken off before version {champion} ceased to "
            "be the Champion; the control plane completes it",
        )
    if promotion is None:
        return Gap(
            GapKind.SHOWN,
            f"version {champion} became the Champion by no promotion of the mesh, for example by "
            f"hand in MLflow, and {now}; `mesh reload {name}` serves the Champion",
        )
    if not promotion.serve:
        return Gap(
            GapKind.PINNED if serving else GapKind.SHOWN,
            f"version {champion} was promoted by a training that was to change no traffic, and "
            f"{now}; `mesh reload {name}` serves the Champion",
        )
    return Gap(
        GapKind.PENDING,
        f"version {champion} was promoted and {now}; the control plane makes the switch",
        promotion.moment,
    )


def _without_champion(model: RegisteredModel, serving: str) -> Gap | None:
    promoted = promotions_of(model)
    if not promoted and not serving:
        return None
    lost = f", which was version {promoted[0].version}" if promoted else ""
    now = f"the fleet goes on with version {serving}" if serving else "replicas keep what they have"
    return Gap(
        GapKind.SHOWN,
        f"{model.name} has no Champion any more{lost}: its version or its alias was deleted in "
        f"MLflow; {now}. `mesh train {model.name}` makes a new one, and `mesh reload {model.name} "
        "--version V` serves a version that is still there",
    )
