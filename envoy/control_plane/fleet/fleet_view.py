"""The fleet, in the messages of the contract."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.gone_models import gone_models, gone_versions
from control_plane.fleet.replica_client import ReplicaState
from control_plane.models.catalog import Catalog
from control_plane.models.serving_gap import GapKind, gap_of
from mesh.v1 import reload_pb2
from service_kit.model_registry.records import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SERVING,
    RegisteredModel,
    VersionRef,
)


class FleetView:
    """Reads the registry and asks the replicas, both at once."""

    def __init__(self, fleet: Fleet, catalog: Catalog) -> None:
        self._fleet = fleet
        self._catalog = catalog

    async def look(self) -> tuple[Sequence[RegisteredModel], Sequence[Member]]:
        """Return every model and every replica as they are now.

        Raises Unavailable when the registry has not answered since the start.
        """
        return await asyncio.gather(self._catalog.read(), self._fleet.members())


def view_fleet(
    models: Sequence[RegisteredModel],
    members: Sequence[Member],
    why_not_yet: Callable[[str], str] = lambda model: "",
) -> reload_pb2.Fleet:
    """Translate. A replica is eligible when it serves the fleet's version of every model.

    `why_not_yet` says of a model why the latest attempt to make its pending switch failed; empty:
    none has.
    """
    serving = {m.name: m.aliased(SERVING) for m in models if m.aliases.get(SERVING)}
    numbers = {name: ref.version for name, ref in serving.items()}
    names = {model.name for model in models}
    versions = gone_versions(names, members)
    shown = [_model(model, why_not_yet(model.name)) for model in models]
    shown += [
        reload_pb2.FleetModel(name=name, serving_version=versions[name], detail=detail)
        for name, detail in gone_models(names, members).items()
    ]
    shown.sort(key=lambda model: model.name)
    return reload_pb2.Fleet(
        models=shown,
        replicas=[
            _replica(member, member.lacks(numbers) or _outdated(member, serving))
            for member in members
        ],
    )


def _outdated(member: Member, serving: Mapping[str, VersionRef]) -> str:
    """Name a model whose replaced namesake the replica still serves; empty: there is none."""
    for model, ref in sorted(serving.items()):
        if member.state and not member.state.serving_ref(model).same(ref):
            return f"{model}: serves version {ref.version} of an earlier model of this name"
    return ""


def _model(model: RegisteredModel, why_not_yet: str) -> reload_pb2.FleetModel:
    gap = gap_of(model)
    detail = gap.detail if gap else ""
    if why_not_yet:
        detail += f"; the latest attempt failed: {why_not_yet}"
    return reload_pb2.FleetModel(
        pinned=gap is not None and gap.kind is GapKind.PINNED,
        detail=detail,
        name=model.name,
        serving_version=model.aliases.get(SERVING, ""),
        champion_version=model.aliases.get(CHAMPION, ""),
        challenger_version=model.aliases.get(CHALLENGER, ""),
        previous_version=model.aliases.get(PREVIOUS, ""),
    )


def _replica(member: Member, problem: str) -> reload_pb2.Replica:
    return reload_pb2.Replica(
        id=member.name,
        address=member.address,
        healthy=member.healthy,
        eligible=not problem,
        device=member.state.device if member.state else "",
        models=_slots(member.state) if member.state else [],
        detail=problem,
    )


def _slots(state: ReplicaState) -> list[reload_pb2.ReplicaModel]:
    ordered = sorted(state.slots, key=lambda slot: (slot.model, slot.role.value, slot.state.value))
    return [
        reload_pb2.ReplicaModel(
            name=slot.model,
            role=f"MODEL_ROLE_{slot.role.name}",
            version=slot.version,
            state=f"MODEL_STATE_{slot.state.name}",
            step=slot.step,
            run_id=slot.run_id,
            detail=slot.detail,
        )
        for slot in ordered
    ]
