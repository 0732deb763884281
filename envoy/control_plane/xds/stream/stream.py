"""The protocol on the aggregated stream to one Envoy (ADS, state of the world); pure.

Clusters and listeners are full state: Envoy deletes those that a response leaves out. Endpoints,
routes and extensions go by name: a response holds those that Envoy asked for and that have changed.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse

from control_plane.xds.stream.resources import (
    CDS,
    ECDS,
    EDS,
    LDS,
    ORDER,
    RDS,
    ByName,
    Resource,
    Resources,
    version_of,
)

log = logging.getLogger(__name__)

_FULL_STATE = (CDS, LDS)
# Types that are sent only when Envoy has taken the clusters that they may name.
_AFTER_CLUSTERS = (LDS, ECDS, RDS)


@dataclass
class _Subscription:
    """Envoy's subscription to one type of resources on one stream."""

    names: frozenset[str]
    sent: dict[str, Resource] = field(default_factory=dict)
    sent_version: str = ""
    nonce: str = ""
    # Versions that Envoy's answer to the latest response took or refused; empty: no answer yet.
    acked_version: str = ""
    rejected_version: str = ""


class AdsStream:
    """The state of one stream: `take` each request of Envoy, and send the `responses`."""

    def __init__(self) -> None:
        self.node_id = ""
        self.rejections = 0
        self._types: dict[str, _Subscription] = {}
        self._nonces = 0

    def take(self, request: DiscoveryRequest) -> None:
        """Note a subscription, an ACK or a NACK."""
        if request.node and not self.node_id:
            # Envoy names its node in the first request only.
            self.node_id = request.node.id
        subscription = self._types.get(request.type_url)
        if subscription is None:
            self._types[request.type_url] = _Subscription(frozenset(request.resource_names))
            return
        if request.response_nonce != subscription.nonce:
            # The answer is to an older response, so it tells nothing about the latest one.
            return
        subscription.names = frozenset(request.resource_names)
        if request.error_detail:
            self.rejections += 1
            subscription.rejected_version = subscription.sent_version
            extra = {"node": self.node_id, "type": request.type_url}
            log.error("Envoy rejected", extra=extra | {"why": request.error_detail.message})
        else:
            subscription.acked_version = subscription.sent_version

    def responses(self, resources: Resources) -> Iterator[DiscoveryResponse]:
        """Yield the responses to be sent now, in the order in which Envoy has to get them."""
        for type_url in ORDER:
            subscription = self._types.get(type_url)
            if subscription is None or not self._may_send(type_url):
                continue
            wanted = self._wanted(type_url, subscription, resources)
            version = self._version(type_url, wanted, resources)
            if version != subscription.sent_version:
                yield self._response(type_url, subscription, version, wanted)

    def settled(self, resources: Resources) -> bool:
        """Return whether Envoy has taken all the resources that it has asked for."""
        return all(
            subscription.acked_version == version
            for subscription, version in self._versions(resources)
        )

    def refused(self, resources: Resources) -> bool:
        """Return whether Envoy has refused any of these resources."""
        return any(
            subscription.rejected_version == version
            for subscription, version in self._versions(resources)
        )

    def _versions(self, resources: Resources) -> Iterator[tuple[_Subscription, str]]:
        for type_url in ORDER:
            if subscription := self._types.get(type_url):
                wanted = self._wanted(type_url, subscription, resources)
                yield subscription, self._version(type_url, wanted, resources)

    def _may_send(self, type_url: str) -> bool:
        """Routes, extensions and listeners wait for the clusters' ACK; a NACK holds them back."""
        clusters = self._types.get(CDS)
        if type_url not in _AFTER_CLUSTERS or clusters is None:
            return True
        return bool(clusters.acked_version)

    def _wanted(self, type_url: str, subscription: _Subscription, resources: Resources) -> ByName:
        by_name = resources[type_url]
        if type_url == CDS:
            return {**self._leaving(subscription, resources), **by_name}
        if type_url in _FULL_STATE:
            return by_name
        return {name: by_name[name] for name in subscription.names if name in by_name}

    def _leaving(self, clusters: _Subscription, resources: Resources) -> ByName:
        """Return the clusters that stay until Envoy has no routes to them any more."""
        routes = self._types.get(RDS)
        if routes is None or routes.acked_version == version_of(
            self._wanted(RDS, routes, resources)
        ):
            return {}
        return clusters.sent

    def _version(self, type_url: str, wanted: ByName, resources: Resources) -> str:
        version = version_of(wanted)
        if type_url == EDS:
            # Envoy waits for the endpoints of a cluster that has changed, so they are sent again
            # with it.
            version += f"-{version_of(resources[CDS])}"
        return version

    def _response(
        self, type_url: str, subscription: _Subscription, version: str, wanted: ByName
    ) -> DiscoveryResponse:
        whole = type_url in _FULL_STATE or _salt(version) != _salt(subscription.sent_version)
        sent = [
            resource
            for name, resource in sorted(wanted.items())
            if whole or subscription.sent.get(name) != resource
        ]
        self._nonces += 1
        subscription.nonce = str(self._nonces)
        subscription.acked_version = subscription.rejected_version = ""
        subscription.sent_version = version
        subscription.sent = dict(wanted)
        return DiscoveryResponse(
            version_info=version,
            resources=[resource.packed for resource in sent],
            type_url=type_url,
            nonce=subscription.nonce,
        )


def _salt(version: str) -> str:
    return version.partition("-")[2]
