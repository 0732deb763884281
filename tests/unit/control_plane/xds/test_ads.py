"""The stream to one Envoy: each rule of the protocol is a test."""

from dataclasses import replace

import pytest
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.rpc import Status

from control_plane.topology import Address, MeshTopology, Split
from control_plane.xds import build_snapshot
from control_plane.xds.stream.resources import CDS, EDS, LDS, RDS, RTDS, Encoder, Resources
from control_plane.xds.stream.stream import AdsStream
from tests.unit.control_plane.topologies import SPLIT, TOPOLOGY

NAMES = {EDS: ["champion", "challenger"], RDS: ["mesh"], RTDS: ["limits"]}
NODE = Node(id="envoy-1")


def resources(topology: MeshTopology = TOPOLOGY) -> Resources:
    return Encoder().encode(build_snapshot(topology))


def without_cluster(name: str) -> Resources:
    every = resources()
    return {**every, CDS: {key: value for key, value in every[CDS].items() if key != name}}


class Envoy:
    """A stream, and a well-behaved Envoy that answers on it."""

    def __init__(self, *types: str) -> None:
        self.stream = AdsStream()
        for number, type_url in enumerate(types or (CDS, EDS, LDS, RDS)):
            node = NODE if number == 0 else None
            self.stream.take(
                DiscoveryRequest(
                    node=node, type_url=type_url, resource_names=NAMES.get(type_url, [])
                )
            )

    def sent(self, given: Resources) -> list[DiscoveryResponse]:
        return list(self.stream.responses(given))

    def ack(self, response: DiscoveryResponse, error: str = "") -> None:
        self.stream.take(
            DiscoveryRequest(
                type_url=response.type_url,
                version_info="" if error else response.version_info,
                response_nonce=response.nonce,
                resource_names=NAMES.get(response.type_url, []),
                error_detail=Status(code=13, message=error) if error else None,
            )
        )

    def follow(self, given: Resources) -> list[DiscoveryResponse]:
        """Take all responses until the stream has none."""
        every = []
        while responses := self.sent(given):
            for response in responses:
                self.ack(response)
            every += responses
        return every


def types(responses: list[DiscoveryResponse]) -> list[str]:
    return [response.type_url for response in responses]


def names(response: DiscoveryResponse) -> list[str]:
    named = []
    for packed in response.resources:
        message = packed.unpack()
        named.append(getattr(message, "cluster_name", "") or getattr(message, "name", ""))
    return named


def test_resources_come_in_the_order_in_which_they_are_named() -> None:
    assert types(Envoy().follow(resources())) == [CDS, EDS, LDS, RDS]


def test_routes_wait_until_the_clusters_are_taken() -> None:
    envoy = Envoy()
    first = envoy.sent(resources())
    assert types(first) == [CDS, EDS]
    envoy.ack(first[0])
    assert types(envoy.sent(resources())) == [LDS, RDS]


def test_routes_are_held_back_when_the_clusters_are_refused() -> None:
    envoy = Envoy()
    envoy.ack(envoy.sent(resources())[0], error="no such type")
    assert envoy.sent(resources()) == []
    assert envoy.stream.rejections == 1
    assert envoy.stream.refused(resources())
    assert not envoy.stream.settled(resources())


def test_what_was_refused_is_not_sent_again_until_it_changes() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    changed = resources(SPLIT)
    responses = envoy.sent(changed)
    for response in responses:
        envoy.ack(response, error="bad" if response.type_url == RDS else "")
    assert envoy.sent(changed) == []
    assert types(envoy.follow(resources())) == [RDS]
    assert envoy.stream.settled(resources())


def test_nothing_is_sent_when_nothing_changed() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    assert envoy.sent(resources()) == []
    assert envoy.stream.settled(resources())


def test_equal_content_has_equal_versions_after_a_restart() -> None:
    before, after = Envoy().follow(resources()), Envoy().follow(resources())
    assert [r.version_info for r in before] == [r.version_info for r in after]


def test_the_node_is_named_on_the_first_request_only() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    assert envoy.stream.node_id == "envoy-1"


def test_an_answer_to_an_overtaken_response_is_dropped() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    stale = envoy.sent(resources(SPLIT))
    fresh = envoy.sent(resources())
    for response in stale:
        envoy.ack(response)
    assert not envoy.stream.settled(resources())
    for response in fresh:
        envoy.ack(response)
    assert envoy.stream.settled(resources())


def test_only_what_changed_is_sent() -> None:
    envoy = Envoy()
    envoy.follow(resources(SPLIT))
    fewer = replace(SPLIT, replicas=SPLIT.replicas[:1])
    responses = envoy.follow(resources(fewer))
    assert types(responses) == [EDS]
    assert names(responses[0]) == ["challenger", "champion"]
    before, after = resources(SPLIT), resources(fewer)
    half = {**after, EDS: {**after[EDS], "challenger": before[EDS]["challenger"]}}
    envoy = Envoy()
    envoy.follow(before)
    assert [names(response) for response in envoy.follow(half)] == [["champion"]]


def test_a_split_sends_routes_only() -> None:
    envoy = Envoy()
    envoy.follow(resources(SPLIT))
    other = replace(SPLIT, splits=(("reviews", Split(50, 50)),))
    assert types(envoy.follow(resources(other))) == [RDS]


def test_limits_are_sent_only_when_the_fleet_grows_beyond_their_floor() -> None:
    envoy = Envoy(CDS, EDS, LDS, RDS, RTDS)
    envoy.follow(resources())
    fewer = replace(TOPOLOGY, replicas=TOPOLOGY.replicas[:1])
    assert types(envoy.follow(resources(fewer))) == [EDS]
    more = replace(TOPOLOGY, replicas=(*TOPOLOGY.replicas, Address("127.0.0.1", 2001)))
    assert types(envoy.follow(resources(more))) == [EDS, RTDS]


def test_endpoints_come_again_with_a_cluster_that_changed() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    elsewhere = replace(TOPOLOGY, training=Address("127.0.0.1", 2003))
    responses = envoy.follow(resources(elsewhere))
    assert types(responses)[:2] == [CDS, EDS]
    assert names(responses[1]) == ["challenger", "champion"]


def test_names_that_are_asked_for_later_are_sent_then() -> None:
    envoy = Envoy()
    envoy.stream = AdsStream()
    request = DiscoveryRequest(node=NODE, type_url=EDS, resource_names=["champion"])
    envoy.stream.take(request)
    first = envoy.sent(resources())[0]
    assert names(first) == ["champion"]
    envoy.stream.take(
        DiscoveryRequest(
            type_url=EDS,
            version_info=first.version_info,
            response_nonce=first.nonce,
            resource_names=["champion", "challenger"],
        )
    )
    assert [names(response) for response in envoy.sent(resources())] == [["challenger"]]


def test_unknown_names_are_answered_without_resources() -> None:
    stream = AdsStream()
    stream.take(DiscoveryRequest(node=NODE, type_url=RDS, resource_names=["nothing"]))
    (response,) = stream.responses(resources())
    assert response.resources == []


def test_clusters_are_removed_after_the_routes_that_named_them() -> None:
    envoy = Envoy()
    envoy.follow(resources())
    smaller = dict(without_cluster("trigger"))
    smaller[RDS] = resources(SPLIT)[RDS]
    responses = envoy.follow(smaller)
    assert types(responses).index(RDS) < len(responses) - 1 - types(responses)[::-1].index(CDS)
    last = [response for response in responses if response.type_url == CDS][-1]
    assert "trigger" not in names(last)


@pytest.mark.parametrize("type_url", [CDS, LDS])
def test_full_state_is_sent_whole(type_url: str) -> None:
    envoy = Envoy()
    envoy.follow(resources())
    elsewhere = resources(replace(TOPOLOGY, trigger=Address("127.0.0.1", 2), port=8001))
    whole = next(r for r in envoy.follow(elsewhere) if r.type_url == type_url)
    assert len(whole.resources) == len(elsewhere[type_url])
