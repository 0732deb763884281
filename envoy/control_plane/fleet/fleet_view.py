"""The fleet, in the messages of the contract."""

import asyncio
from collections.abc import Sequence

from control_plane.fleet.fleet import Fleet, Member
from control_plane.fleet.replica_client import ReplicaState
from control_plane.models.catalog import Catalog
from mesh.v1 import reload_pb2
from service_kit.model_registry.records import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SERVING,
    RegisteredModel,
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


def view_fleet(models: Sequence[RegisteredModel], members: Sequence[Member]) -> reload_pb2.Fleet:
    """Translate. A replica is eligible when it serves the fleet's version of every model."""
    serving = {m.name: m.aliases[SERVING] for m in models if m.aliases.get(SERVING)}
    return reload_pb2.Fleet(
        models=[_model(model) for model in models],
        replicas=[_replica(member, member.lacks(serving)) for member in members],
    )


def _model(model: RegisteredModel) -> reload_pb2.FleetModel:
    return reload_pb2.FleetModel(
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
