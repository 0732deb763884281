"""Which replicas get traffic, and how each model's is split: decided here, told to Envoy."""

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

# One that does not answer keeps its place for so long: Envoy looks at its health itself.
GRACE_S = 3.0
# Without a registry since the start, replicas that are healthy get traffic after so long.
PATIENCE_S = 5.0
SETTLE_S = 2.0
# What has piled up while replicas prepared a version is answered first, before fewer may wait.
CATCH_UP_S = 5.0


class Publisher(Protocol):
    """Tells every Envoy what the mesh looks like."""

    def publish(self, topology: MeshTopology) -> None:
        """Send what has changed."""

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every Envoy has taken it; False: not in time, or refused."""


@dataclass(frozen=True)
class _Demand:
    """What a model asks of a replica that is to get its traffic."""

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
    """Keeps Envoy's endpoints and splits at what the replicas serve.

    A replica gets traffic when it is healthy and serves the fleet's version of every model. A
    model that no replica serves as it should counts for none: the others' traffic goes on.
    """

    def __init__(
        self,
        topology: MeshTopology,
        publisher: Publisher,
        locks: ModelLocks,
        clock: Callable[[], float],
    ) -> None:
        """`topology` says where everything but the replicas is."""
        self._topology = topology
        self._publisher = publisher
        self._locks = locks
        self._clock = clock
        self._started = clock()
        self._published: MeshTopology | None = None
        self._current: dict[tuple[str, str], bool] = {}
        self._places: dict[str, _Place] = {}
        self._served_by_none: set[tuple[str, str]] = set()
        self._changed_at = -math.inf
        self.decisions = 0
        """How many there were; who looked at the fleet before the latest one is out of date."""

    def update(
        self,
        models: Sequence[RegisteredModel] | None,
        members: Sequence[Member],
        now_serving: Mapping[str, str] | None = None,
    ) -> None:
        """Decide anew. `models` None: the registry has not answered since the start.

        While a model changes, its replicas keep their places; `now_serving` (model → version)
        ends that for a change that is done.
        """
        self.decisions += 1
        if models is None:
            if self._published or self._clock() - self._started < PATIENCE_S:
                return
            models = ()
        now_serving = now_serving or {}
        demands = [_demand(model, now_serving) for model in models]
        demands = [demand for demand in demands if demand.version]
        self._judge(demands, members, now_serving)
        champions = [member for member in members if self._gets_traffic(member, demands)]
        if not champions and self._published and self._published.replicas:
            # Envoy's own health checks know better than a control plane that reaches nobody.
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
        """Wait until every Envoy has taken the latest decision."""
        done = await self._publisher.settled(SETTLE_S)
        if not done:
            log.warning("an Envoy has not taken the latest configuration")
        return done

    def split(self, model: str) -> Split:
        """The split that Envoy has: a Challenger that nobody serves gets nothing."""
        splits = dict(self._published.splits) if self._published else {}
        return splits.get(model, ALL_TO_THE_CHAMPION)

    def _judge(
        self,
        demands: Sequence[_Demand],
        members: Sequence[Member],
        now_serving: Mapping[str, str],
    ) -> None:
        """Note which replica serves each model as it should."""
        before, self._current = self._current, {}
        healthy = [member for member in members if member.healthy]
        for demand in demands:
            model = demand.model
            if self._locks.taken(model) and model not in now_serving:
                kept = {key: value for key, value in before.items() if key[1] == model}
                if kept:
                    self._current |= {
                        (m.address, model): kept.get((m.address, model), False) for m in members
                    }
                continue
            serves = {m.address: m.serves(model) == demand.version for m in healthy}
            if any(serves.values()):
                self._current |= {(address, model): yes for address, yes in serves.items()}
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
            self._current.get((address, demand.model), True) for demand in demands
        )
        if ready:
            self._places[address] = _Place(now, member.state.http_port, member.state.unary_port)
        else:
            self._places.pop(address, None)
        return ready

    def _addresses_at(
        self, members: Sequence[Member], port_of: Callable[[_Place], int]
    ) -> tuple[Address, ...]:
        """Other ports of members that get traffic; some may not have them."""
        # One that does not answer now keeps the port that it told last.
        ports = [(member.address, port_of(self._places[member.address])) for member in members]
        found = [Address(Address.parse(address).host, port) for address, port in ports if port]
        return tuple(sorted(found))

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

    A replica without it answers as Champion, so nobody is taken out for a Challenger's sake.
    """
    return tuple(
        sorted(
            (demand.model, demand.stored.split)
            for demand in demands
            if demand.stored.split.tries_challenger
            and any(_tries(member, demand) for member in members)
        )
    )


def _tries(member: Member, demand: _Demand) -> bool:
    state = member.state
    return state is not None and (
        state.serves(demand.model, Role.CHALLENGER) == demand.stored.version
    )


def _addresses(members: Sequence[Member]) -> tuple[Address, ...]:
    return tuple(sorted(Address.parse(member.address) for member in members))
