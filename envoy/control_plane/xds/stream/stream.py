"""What one Envoy is sent over its aggregated stream (ADS, state of the world); pure.

Clusters and listeners are full state: one that is left out is deleted. Endpoints and routes go by
name: only what was asked for and has changed is sent.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse

from control_plane.xds.stream.resources import (
    CDS,
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
# Sent only when the clusters that they may name have been taken.
_AFTER_CLUSTERS = (LDS, RDS)


@dataclass
class _Subscription:
    """One type on one stream."""

    names: frozenset[str]
    sent: dict[str, Resource] = field(default_factory=dict)
    sent_version: str = ""
    nonce: str = ""
    # Answers to the latest response only.
    acked_version: str = ""
    rejected_version: str = ""


class AdsStream:
    """The state of one stream: `take` what Envoy says, send what `responses` gives."""

    def __init__(self) -> None:
        self.node_id = ""
        self.rejections = 0
        self._types: dict[str, _Subscription] = {}
        self._nonces = 0

    def take(self, request: DiscoveryRequest) -> None:
        """Note a subscription, an ACK or a NACK."""
        if request.node and not self.node_id:
            # Promised on the first request only.
            self.node_id = request.node.id
        known = self._types.get(request.type_url)
        if known is None:
            self._types[request.type_url] = _Subscription(frozenset(request.resource_names))
            return
        if request.response_nonce != known.nonce:
            return  # an answer to a response that another one has overtaken
        known.names = frozenset(request.resource_names)
        if request.error_detail:
            self.rejections += 1
            known.rejected_version = known.sent_version
            extra = {"node": self.node_id, "type": request.type_url}
            log.error("Envoy rejected", extra=extra | {"why": request.error_detail.message})
        else:
            known.acked_version = known.sent_version

    def responses(self, resources: Resources) -> Iterator[DiscoveryResponse]:
        """What is to be sent now, in the order in which Envoy has to get it."""
        for type_url in ORDER:
            known = self._types.get(type_url)
            if known is None or not self._may_send(type_url):
                continue
            wanted = self._wanted(type_url, known, resources)
            version = self._version(type_url, wanted, resources)
            if version != known.sent_version:
                yield self._response(type_url, known, version, wanted)

    def settled(self, resources: Resources) -> bool:
        """Envoy has taken all of this that it has asked for."""
        return all(known.acked_version == version for known, version in self._versions(resources))

    def refused(self, resources: Resources) -> bool:
        """Envoy has refused some of this."""
        return any(
            known.rejected_version == version for known, version in self._versions(resources)
        )

    def _versions(self, resources: Resources) -> Iterator[tuple[_Subscription, str]]:
        for type_url in ORDER:
            if known := self._types.get(type_url):
                wanted = self._wanted(type_url, known, resources)
                yield known, self._version(type_url, wanted, resources)

    def _may_send(self, type_url: str) -> bool:
        """Routes and listeners wait for the clusters' ACK; a NACK holds them back."""
        clusters = self._types.get(CDS)
        if type_url not in _AFTER_CLUSTERS or clusters is None:
            return True
        return bool(clusters.acked_version)

    def _wanted(self, type_url: str, known: _Subscription, resources: Resources) -> ByName:
        by_name = resources[type_url]
        if type_url == CDS:
            return {**self._leaving(known, resources), **by_name}
        if type_url in _FULL_STATE:
            return by_name
        return {name: by_name[name] for name in known.names if name in by_name}

    def _leaving(self, clusters: _Subscription, resources: Resources) -> ByName:
        """Clusters to be removed stay until the routes that named them are gone."""
        routes = self._types.get(RDS)
        if routes is None or routes.acked_version == version_of(
            self._wanted(RDS, routes, resources)
        ):
            return {}
        return clusters.sent

    def _version(self, type_url: str, wanted: ByName, resources: Resources) -> str:
        version = version_of(wanted)
        if type_url == EDS:
            # A cluster that has changed waits for endpoints, so they are sent again with it.
            version += f"-{version_of(resources[CDS])}"
        return version

    def _response(
        self, type_url: str, known: _Subscription, version: str, wanted: ByName
    ) -> DiscoveryResponse:
        whole = type_url in _FULL_STATE or _salt(version) != _salt(known.sent_version)
        sent = [
            resource
            for name, resource in sorted(wanted.items())
            if whole or known.sent.get(name) != resource
        ]
        self._nonces += 1
        known.nonce = str(self._nonces)
        known.acked_version = known.rejected_version = ""
        known.sent_version = version
        known.sent = dict(wanted)
        return DiscoveryResponse(
            version_info=version,
            resources=[resource.packed for resource in sent],
            type_url=type_url,
            nonce=known.nonce,
        )


def _salt(version: str) -> str:
    return version.partition("-")[2]
