"""The stream to an Envoy under any sequence of changes, ACKs, NACKs and late answers."""

from dataclasses import replace
from functools import cache

from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.google.rpc import Status
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from control_plane.topology import Address, MeshTopology, Split
from control_plane.xds import build_snapshot
from control_plane.xds.stream.resources import CDS, EDS, LDS, ORDER, RDS, RTDS, Encoder, Resources
from control_plane.xds.stream.stream import AdsStream
from tests.unit.control_plane.topologies import TOPOLOGY

NAMED = {
    EDS: [
        *("challenger", "challenger-unary", "champion", "champion-http", "champion-unary"),
    ],
    RDS: ["mesh"],
    RTDS: ["limits"],
}
# Each round trip settles one of the four steps in the order of the types.
MOST_ROUNDS = 12

# There are few of them: each is encoded once, and that takes longer than all steps that use it.
TOPOLOGIES = [
    TOPOLOGY,
    replace(TOPOLOGY, replicas=()),
    replace(TOPOLOGY, replicas=TOPOLOGY.replicas[:1]),
    replace(TOPOLOGY, replicas=(*TOPOLOGY.replicas, Address("127.0.0.1", 1007))),
    replace(TOPOLOGY, replicas_http=(Address("127.0.0.1", 1006),)),
    replace(TOPOLOGY, replicas_unary=(Address("127.0.0.1", 1006),)),
    replace(TOPOLOGY, training=Address("127.0.0.1", 2001)),
    replace(TOPOLOGY, splits=(("reviews", Split(90, 10)),)),
    replace(TOPOLOGY, splits=(("films", Split(100, 0, 5)), ("reviews", Split(0, 100)))),
]

_ENCODER = Encoder()


@cache
def encoded(topology: MeshTopology, without: str) -> Resources:
    """Return resources, `without` one of the clusters, like those of a release that lacks it."""
    every = _ENCODER.encode(build_snapshot(topology))
    return {**every, CDS: {name: one for name, one in every[CDS].items() if name != without}}


class AdsMachine(RuleBasedStateMachine):
    """An Envoy that answers late and in any order, and refuses now and then."""

    @initialize()
    def join(self) -> None:
        self.stream = AdsStream()
        self.resources = encoded(TOPOLOGY, "")
        self.unanswered: list[DiscoveryResponse] = []
        self.latest: dict[str, DiscoveryResponse] = {}
        self.has: dict[str, dict[str, bytes]] = {type_url: {} for type_url in ORDER}
        self.nonces: set[str] = set()

    @rule(type_url=st.sampled_from(ORDER))
    def subscribe(self, type_url: str) -> None:
        if type_url not in self.latest:
            self.stream.take(self._request(type_url))

    @rule(topology=st.sampled_from(TOPOLOGIES), without=st.sampled_from(("", "", "trigger")))
    def change(self, topology: MeshTopology, without: str) -> None:
        self.resources = encoded(topology, without)

    @rule()
    def send(self) -> None:
        for response in self.stream.responses(self.resources):
            assert response.nonce not in self.nonces
            self.nonces.add(response.nonce)
            if response.type_url in (LDS, RDS) and CDS in self.latest:
                assert self.has[CDS], "routes before any clusters were taken"
            self.unanswered.append(response)
            self.latest[response.type_url] = response
        # Sending again says nothing new.
        assert not list(self.stream.responses(self.resources))

    @rule(index=st.integers(0, 100), refuse=st.sampled_from((False, False, False, True)))
    def answer(self, index: int, refuse: bool) -> None:
        if self.unanswered:
            self._answer(self.unanswered.pop(index % len(self.unanswered)), refuse)

    def _answer(self, response: DiscoveryResponse, refuse: bool) -> None:
        type_url = response.type_url
        rejections = self.stream.rejections
        is_latest = response is self.latest[type_url]
        if not refuse:
            self._apply(response)
        error = Status(code=13, message="refused") if refuse else None
        self.stream.take(replace_request(self._request(type_url), response, error))
        assert self.stream.rejections == rejections + (refuse and is_latest)

    def _apply(self, response: DiscoveryResponse) -> None:
        given = {name_of(packed): packed.value for packed in response.resources}
        if response.type_url in (CDS, LDS):
            self.has[response.type_url] = given
        else:
            self.has[response.type_url].update(given)

    @rule()
    def ends_with_all_of_it(self) -> None:
        """Whatever happened: an Envoy that takes everything has everything a little later."""
        self.unanswered.clear()
        for type_url in ORDER:
            self.subscribe(type_url)
        # A version that Envoy refused or has not answered is sent again only after another version.
        self.resources = encoded(replace(TOPOLOGY, replicas=(), port=8001), "")
        self._settle()
        self.resources = encoded(TOPOLOGY, "")
        self._settle()
        assert self.stream.settled(self.resources)
        assert not self.stream.refused(self.resources)
        for type_url in ORDER:
            wanted = {name: one.packed.value for name, one in self.resources[type_url].items()}
            assert self.has[type_url] == wanted

    def _settle(self) -> None:
        for _ in range(MOST_ROUNDS):
            for response in self.latest.values():
                if not any(response is old for old in self.unanswered):
                    self.unanswered.append(response)
            while self.unanswered:
                self._answer(self.unanswered.pop(0), refuse=False)
            self.send()
            if not self.unanswered:
                return
        raise AssertionError("it never settles")

    @invariant()
    def no_snapshot_is_both_taken_and_refused(self) -> None:
        if hasattr(self, "stream"):
            taken = self.stream.settled(self.resources)
            assert not (taken and self.stream.refused(self.resources))

    def _request(self, type_url: str) -> DiscoveryRequest:
        return DiscoveryRequest(
            node=Node(id="envoy-1"), type_url=type_url, resource_names=NAMED.get(type_url, [])
        )


def replace_request(
    request: DiscoveryRequest, response: DiscoveryResponse, error: Status | None
) -> DiscoveryRequest:
    """Make the request the answer to a response."""
    request.response_nonce = response.nonce
    request.version_info = "" if error else response.version_info
    request.error_detail = error
    return request


_NAMES: dict[bytes, str] = {}


def name_of(packed: Any) -> str:
    """Return the name of a resource. Unpacking is slow, so the names of the few are kept."""
    if packed.value not in _NAMES:
        message = packed.unpack()
        name = getattr(message, "cluster_name", "") or getattr(message, "name", "")
        _NAMES[packed.value] = str(name)
    return _NAMES[packed.value]


AdsMachine.TestCase.settings = settings(stateful_step_count=25)
TestAds = AdsMachine.TestCase
