"""Models that replicas serve and MLflow does not have."""

from collections.abc import Collection, Sequence

from control_plane.fleet.fleet import Member
from control_plane.fleet.replica_client import Role, SlotState


def gone_models(registered: Collection[str], members: Sequence[Member]) -> dict[str, str]:
    """Say of each model that some replica serves and that is not registered what is so.

    Call it only with names that MLflow has answered: a registry that is away has lost nothing.
    """
    return {
        model: f"MLflow has no model {model} any more: it was deleted or renamed there. Replicas "
        f"go on answering with version {version}; `mesh train {model}` makes it anew, and "
        f"`mesh remove {model}` unloads it"
        for model, version in sorted(gone_versions(registered, members).items())
    }


def gone_versions(registered: Collection[str], members: Sequence[Member]) -> dict[str, str]:
    """Return the version that replicas still serve of each model that is not registered."""
    return {
        slot.model: slot.version
        for member in members
        if member.state
        for slot in member.state.slots
        if slot.role is Role.CHAMPION
        and slot.state is SlotState.SERVING
        and slot.model not in registered
    }
