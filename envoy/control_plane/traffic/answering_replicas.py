"""Which replicas answer for each model."""

import logging
from collections.abc import Collection, Mapping, Sequence

from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.fleet import Member
from control_plane.traffic.demands import Demand
from service_kit.model_registry.records import VersionRef

log = logging.getLogger(__name__)


class AnsweringReplicas:
    """Follows the replicas' answers, model by model.

    A replica answers for a model when it serves the fleet's version of it. When no replica does,
    those with another version go on answering: an old answer is better than none.
    """

    def __init__(self, locks: ModelLocks) -> None:
        self._locks = locks
        self._answering: dict[str, frozenset[str]] = {}
        self._served_by_none: set[tuple[str, str]] = set()

    def look(
        self,
        demands: Sequence[Demand],
        members: Sequence[Member],
        changed: Collection[str],
    ) -> dict[str, frozenset[str]]:
        """Return the addresses that answer, for each model for which not all `members` do.

        While a model changes, no replica loses its traffic for that model's sake. `changed`: the
        models whose change is done.
        """
        before, self._answering = self._answering, {}
        for demand in demands:
            known = before.get(demand.model)
            if self._locks.taken(demand.model) and demand.model not in changed:
                if known is None:
                    continue
                answering = known - _withdrawn(demand.model, members)
            else:
                answering = self._with_the_fleets_version(demand, members, known)
            self._answering[demand.model] = answering
        everyone = {member.address for member in members}
        return {
            model: answering & everyone
            for model, answering in self._answering.items()
            if not everyone <= answering
        }

    def _with_the_fleets_version(
        self, demand: Demand, members: Sequence[Member], known: frozenset[str] | None
    ) -> frozenset[str]:
        model, version = demand.model, demand.version
        served = _versions(model, members)
        # A replica that is silent for a moment goes on with what it served.
        silent = {member.address for member in members if member.state is None}
        answering = frozenset(address for address in served if served[address].same(demand.ref))
        answering |= silent & (known or frozenset())
        if answering or not members:
            self._served_by_none.discard((model, version))
            return answering
        if (model, version) not in self._served_by_none:
            self._served_by_none.add((model, version))
            extra = {"model": model, "version": version}
            log.warning("no replica serves what the fleet should serve", extra=extra)
        return frozenset(served)


def _versions(model: str, members: Sequence[Member]) -> Mapping[str, VersionRef]:
    """Return the version that each address answers with, without those that do not answer."""
    answers = {member.address: member.answers_with(model) for member in members}
    return {address: version for address, version in answers.items() if version}


def _withdrawn(model: str, members: Sequence[Member]) -> frozenset[str]:
    return frozenset(
        member.address for member in members if member.state and member.state.withdrawn(model)
    )
