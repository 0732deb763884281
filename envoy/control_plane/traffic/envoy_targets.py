"""Decides which replicas get traffic and how each model's traffic is split, and tells Envoy."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.fleet import Member
from control_plane.fleet.replica_client import Role
from control_plane.models.stored_split import StoredSplit, stored_split_of
from control_plane.topology import ALL_TO_THE_CHAMPION, Address, MeshTopology, Split
from service_kit.model_registry.records import SERVING, RegisteredModel

log = logging.getLogger(__name__)

# A replica that does not answer the control plane keeps its traffic for this time, seconds: Envoy
# checks its health itself.
GRACE_S = 3.0
# Seconds after the start from which healthy replicas get traffic although the registry has not
# answered yet.
PATIENCE_S = 5.0
# Longest time that callers wait for every Envoy to take a decision, seconds.
SETTLE_S = 2.0
# Seconds for which more requests may wait after replicas prepared a version, so that the requests
# that have piled up are answered first.
CATCH_UP_S = 5.0


class Publisher(Protocol):
    """Tells every Envoy what the mesh looks like."""

    def publish(self, topology: MeshTopology) -> None:
        """Send every Envoy the parts that have changed."""

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every Envoy has taken the latest topology; False: not in time, or refused."""


@dataclass(frozen=True)
class _Demand:
    """The version of a model that a replica has to serve to get traffic, and the model's split."""

    model: str
    version: str
    stored: StoredSplit


@dataclass(frozen=True)
class _Place:
    """A replica that gets traffic, as of its latest answer."""

    confirmed_at: float
    http_port: int
    """0: it has no HTTP listener."""

    unary_port: int
    """0: it takes no unary calls over HTTP/1.1."""


class EnvoyTargets:
    """Keeps Envoy's endpoints and splits in step with the versions that the replicas serve.

    A replica gets traffic when it is healthy and serves the fleet's version of every model. A
    model whose version no replica serves takes no replica out, so the other models' traffic goes
    on.
    """

    def __init__(
        self,
        topology: MeshTopology,
        publisher: Publisher,
        locks: ModelLocks,
        clock: Callable[[], float],
    ) -> None:
        """`topology` describes the mesh without its replicas; `clock` gives seconds."""
        self._topology = topology
        self._publisher = publisher
        self._locks = locks
        self._clock = clock
        self._started = clock()
        self._published: MeshTopology | None = None
        self._serves_model: dict[tuple[str, str], bool] = {}
        self._places: dict[str, _Place] = {}
        self._served_by_none: set[tuple[str, str]] = set()
        self._changed_at = -math.inf
        self.decisions = 0
        """Number of decisions so far. A look at the fleet that is older than the latest decision is
        out of date."""

    def update(
        self,
        models: Sequence[RegisteredModel] | None,
        members: Sequence[Member],
        now_serving: Mapping[str, str] | None = None,
    ) -> None:
        """Decide anew. `models` None: the registry has not answered since the start.

        While a model changes, no replica loses its traffic for that model's sake. `now_serving`
        (model → version) says that the change of a model is done, and to which version.
        """
        self.decisions += 1
        if models is None:
            if self._published or self._clock() - self._started < PATIENCE_S:
                return
            models = ()
        now_serving = now_serving or {}
        demands = [_demand(model, now_serving) for model in models]
        demands = [demand for demand in demands if demand.version]
        self._note_serving(demands, members, now_serving)
        champions = [member for member in members if self._gets_traffic(member, demands)]
        if not champions and self._published and self._published.replicas:
            # The control plane reaches no replica; Envoy's own health checks know better.
            return
        self._publish(
            replace(
                self._topology,
                replicas=_addresses(champions),
                replicas_http=self._addresses_at(champions, lambda place: place.http_port),
                replicas_unary=self._addresses_at(champions, lambda place: place.unary_port),
                preparing=self._preparing(models),
                splits=_splits(demands, champions),
            )
        )

    def _preparing(self, models: Sequence[RegisteredModel]) -> bool:
        if any(self._locks.taken(model.name) for model in models):
            self._changed_at = self._clock()
        return self._clock() - self._changed_at < CATCH_UP_S

    async def settled(self) -> bool:
        """Wait until every Envoy has taken the latest decision; False: not in time, or refused."""
        done = await self._publisher.settled(SETTLE_S)
        if not done:
            log.warning("an Envoy has not taken the latest configuration")
        return done

    def split(self, model: str) -> Split:
        """Return the split that Envoy has: a Challenger that no replica serves gets nothing."""
        splits = dict(self._published.splits) if self._published else {}
        return splits.get(model, ALL_TO_THE_CHAMPION)

    def _note_serving(
        self,
        demands: Sequence[_Demand],
        members: Sequence[Member],
        now_serving: Mapping[str, str],
    ) -> None:
        """Note for each model which replicas serve the fleet's version."""
        before, self._serves_model = self._serves_model, {}
        healthy = [member for member in members if member.healthy]
        for demand in demands:
            model = demand.model
            if self._locks.taken(model) and model not in now_serving:
                kept = {key: value for key, value in before.items() if key[1] == model}
                if kept:
                    self._serves_model |= {
                        (m.address, model): kept.get((m.address, model), False) for m in members
                    }
                continue
            serves = {m.address: m.serves(model) == demand.version for m in healthy}
            if any(serves.values()):
                self._serves_model |= {(address, model): yes for address, yes in serves.items()}
                self._served_by_none.discard((model, demand.version))
            elif healthy and (model, demand.version) not in self._served_by_none:
                self._served_by_none.add((model, demand.version))
                extra = {"model": model, "version": demand.version}
                log.warning("no replica serves what the fleet should serve", extra=extra)

    def _gets_traffic(self, member: Member, demands: Sequence[_Demand]) -> bool:
        address, now = member.address, self._clock()
        if member.state is None:
            place = self._places.get(address)
            return place is not None and now - place.confirmed_at < GRACE_S
        ready = member.healthy and all(
            self._serves_model.get((address, demand.model), True) for demand in demands
        )
        if ready:
            self._places[address] = _Place(now, member.state.http_port, member.state.unary_port)
        else:
            self._places.pop(address, None)
        return ready

    def _addresses_at(
        self, members: Sequence[Member], port_of: Callable[[_Place], int]
    ) -> tuple[Address, ...]:
        """Addresses of another port of the members; those without such a port are left out."""
        # A replica that does not answer now keeps the port of its latest answer.
        ports = [(member.address, port_of(self._places[member.address])) for member in members]
        return tuple(
            sorted(Address(Address.parse(address).host, port) for address, port in ports if port)
        )

    def _publish(self, topology: MeshTopology) -> None:
        if topology == self._published:
            return
        self._published = topology
        self._publisher.publish(topology)
        log.info(
            "targets changed",
            extra={
                "replicas": [str(address) for address in topology.replicas],
                "splits": {m: f"{s.champion}/{s.challenger}" for m, s in topology.splits},
            },
        )


def _demand(model: RegisteredModel, now_serving: Mapping[str, str]) -> _Demand:
    version = now_serving.get(model.name) or model.aliases.get(SERVING, "")
    return _Demand(model.name, version, stored_split_of(model))


def _splits(demands: Sequence[_Demand], members: Sequence[Member]) -> tuple[tuple[str, Split], ...]:
    """The splits in force: a Challenger that no replica serves gets nothing.

    A replica without the Challenger answers as Champion, so it keeps its traffic.
    """
    return tuple(
        sorted(
            (demand.model, demand.stored.split)
            for demand in demands
            if demand.stored.split.tries_challenger
            and any(_serves_challenger(member, demand) for member in members)
        )
    )


def _serves_challenger(member: Member, demand: _Demand) -> bool:
    state = member.state
    return state is not None and (
        state.serves(demand.model, Role.CHALLENGER) == demand.stored.version
    )


def _addresses(members: Sequence[Member]) -> tuple[Address, ...]:
    return tuple(sorted(Address.parse(member.address) for member in members))
