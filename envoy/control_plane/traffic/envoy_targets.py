"""Decides which replicas get traffic and how each model's traffic is split, and tells Envoy."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.fleet import Member
from control_plane.topology import ALL_TO_THE_CHAMPION, Address, MeshTopology, Split
from control_plane.traffic.answering_replicas import AnsweringReplicas
from control_plane.traffic.demands import Splits, demands_of, splits_among, splits_unasked
from service_kit.model_registry.records import RegisteredModel

log = logging.getLogger(__name__)

# A replica that does not answer the control plane keeps its traffic for this time, seconds: Envoy
# checks its health itself.
GRACE_S = 3.0
# Seconds after the start from which Envoy is told what is known, although the registry has not
# answered yet, or no replica has.
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

    async def obstacle(self, timeout_s: float) -> str:
        """Wait until every Envoy has taken the latest topology.

        Returns why one has not, in words; empty: all have.
        """


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

    A replica gets traffic when it is healthy, and the calls for a model when it answers for that
    model. So a replica that lacks one model keeps the traffic of its other models.
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
        self._answering = AnsweringReplicas(locks)
        self._places: dict[str, _Place] = {}
        self._splits: Splits = {}
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
        patient = self._clock() - self._started < PATIENCE_S
        if models is None:
            if self._published or patient:
                return
            models = ()
        now_serving = now_serving or {}
        demands = demands_of(models, now_serving)
        getting = [member for member in members if self._gets_traffic(member)]
        preparing = self._preparing(models)
        if getting:
            partly = self._answering.look(demands, getting, now_serving)
            self._splits = splits_among(demands, getting)
            self._publish(self._with_replicas(getting, partly), preparing)
        elif self._published and self._published.replicas:
            # The control plane reaches no replica. Envoy's own health checks know better which
            # ones work, but what is taken away from a Challenger reaches Envoy all the same.
            self._splits = splits_unasked(demands, self._splits)
            self._publish(self._published, preparing)
        elif not any(member.state for member in members) and members:
            # Not one replica has answered since the start, while an Envoy may well reach them.
            if not patient:
                known = tuple(sorted(Address.parse(member.address) for member in members))
                self._publish(replace(self._topology, replicas=known), preparing)
        else:
            self._publish(self._topology, preparing)

    def _preparing(self, models: Sequence[RegisteredModel]) -> bool:
        if any(self._locks.taken(model.name) for model in models):
            self._changed_at = self._clock()
        return self._clock() - self._changed_at < CATCH_UP_S

    async def obstacle(self) -> str:
        """Wait until every Envoy has taken the latest decision; return why one has not, in words.

        Empty: all have.
        """
        why = await self._publisher.obstacle(SETTLE_S)
        if why:
            log.warning("the latest decision is not in force", extra={"why": why})
        return why

    def split(self, model: str) -> Split:
        """Return the split for Envoy: a Challenger that no replica serves gets nothing."""
        stored = self._splits.get(model)
        return stored.split if stored else ALL_TO_THE_CHAMPION

    def _gets_traffic(self, member: Member) -> bool:
        address, now = member.address, self._clock()
        if member.state is None:
            place = self._places.get(address)
            return place is not None and now - place.confirmed_at < GRACE_S
        if member.healthy:
            self._places[address] = _Place(now, member.state.http_port, member.state.unary_port)
        else:
            self._places.pop(address, None)
        return member.healthy

    def _with_replicas(
        self, members: Sequence[Member], partly_served: Mapping[str, frozenset[str]]
    ) -> MeshTopology:
        grpc = {member.address: Address.parse(member.address) for member in members}
        # A replica that does not answer now keeps the ports of its latest answer.
        http = {a: self._at(grpc[a], self._places[a].http_port) for a in grpc}
        unary = {a: self._at(grpc[a], self._places[a].unary_port) for a in grpc}

        def all_ports(answering: frozenset[str]) -> frozenset[Address]:
            ports = (at[address] for at in (grpc, http, unary) for address in answering)
            return frozenset(port for port in ports if port)

        return replace(
            self._topology,
            replicas=tuple(sorted(grpc.values())),
            replicas_http=tuple(sorted(filter(None, http.values()))),
            replicas_unary=tuple(sorted(filter(None, unary.values()))),
            partly_served=tuple(
                (model, all_ports(answering)) for model, answering in sorted(partly_served.items())
            ),
        )

    def _at(self, address: Address, port: int) -> Address | None:
        """Return another port of a host; None when the port is 0."""
        return Address(address.host, port) if port else None

    def _publish(self, topology: MeshTopology, preparing: bool) -> None:
        splits = tuple(sorted((model, stored.split) for model, stored in self._splits.items()))
        topology = replace(topology, splits=splits, preparing=preparing)
        if topology == self._published:
            return
        self._published = topology
        self._publisher.publish(topology)
        log.info(
            "targets changed",
            extra={
                "replicas": [str(address) for address in topology.replicas],
                "splits": {m: f"{s.champion}/{s.challenger}" for m, s in topology.splits},
                "partly_served": [model for model, _ in topology.partly_served],
            },
        )
