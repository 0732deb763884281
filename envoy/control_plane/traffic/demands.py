"""What the registry wants the fleet to serve, and the splits that are in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.fleet.fleet import Member
from control_plane.fleet.replica_client import Role
from control_plane.models.stored_split import NO_SPLIT, StoredSplit, stored_split_of
from control_plane.topology import Split
from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef

# The split of each model whose Challenger gets requests.
Splits = Mapping[str, StoredSplit]


@dataclass(frozen=True)
class Demand:
    """The version of a model that a replica has to answer with, and the model's split."""

    model: str
    ref: VersionRef
    stored: StoredSplit

    @property
    def version(self) -> str:
        """Number of the version."""
        return self.ref.version


def demands_of(
    models: Sequence[RegisteredModel], now_serving: Mapping[str, str]
) -> tuple[Demand, ...]:
    """Return the demands of the models of which any version is to be served."""
    demands = (_demand(model, now_serving) for model in models)
    return tuple(demand for demand in demands if demand.version)


def splits_among(demands: Sequence[Demand], members: Sequence[Member]) -> Splits:
    """Return the splits among these replicas: a Challenger that none of them serves gets nothing.

    A replica without the Challenger answers as Champion, so it keeps its traffic.
    """
    return {
        demand.model: demand.stored
        for demand in demands
        if demand.stored.split.tries_challenger
        and any(_serves_challenger(member, demand) for member in members)
    }


def splits_unasked(demands: Sequence[Demand], in_force: Splits) -> Splits:
    """Return the splits while no replica can be asked.

    What is taken away from a Challenger needs no replica. What is given to it has to wait, since
    nobody knows whether any replica serves it.
    """
    wanted = {demand.model: demand.stored for demand in demands}
    lessened = {
        model: _lesser(before, wanted.get(model, NO_SPLIT)) for model, before in in_force.items()
    }
    return {model: stored for model, stored in lessened.items() if stored.split.tries_challenger}


def takes_away(before: StoredSplit, after: StoredSplit) -> bool:
    """Return whether a Challenger gets no more than before, and no other one gets anything."""
    return not after.split.tries_challenger or (
        after.ref.same(before.ref)
        and after.split.challenger <= before.split.challenger
        and after.split.mirror_percent <= before.split.mirror_percent
    )


def _lesser(before: StoredSplit, wanted: StoredSplit) -> StoredSplit:
    if not wanted.ref.same(before.ref):
        return NO_SPLIT
    challenger = min(before.split.challenger, wanted.split.challenger)
    mirrored = min(before.split.mirror_percent, wanted.split.mirror_percent)
    return StoredSplit(Split(100 - challenger, challenger, mirrored), before.ref)


def _demand(model: RegisteredModel, now_serving: Mapping[str, str]) -> Demand:
    version = now_serving.get(model.name) or model.aliases.get(SERVING, "")
    return Demand(model.name, model.ref(version), stored_split_of(model))


def _serves_challenger(member: Member, demand: Demand) -> bool:
    return member.answers_with(demand.model, Role.CHALLENGER).same(demand.stored.ref)
