"""A snapshot in the form that is sent to Envoy: encoded resources, with versions by content."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import SupportsBytes

from envoy_data_plane.google.protobuf import Any

from control_plane.xds.stream.message_cache import once_for_each
from control_plane.xds.stream.snapshot import Snapshot

_PREFIX = "type.googleapis.com/envoy.config."
CDS = f"{_PREFIX}cluster.v3.Cluster"
EDS = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LDS = f"{_PREFIX}listener.v3.Listener"
RDS = f"{_PREFIX}route.v3.RouteConfiguration"
ECDS = f"{_PREFIX}core.v3.TypedExtensionConfig"
RTDS = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
# The order in which a change is sent: a resource comes before the resources that name it.
ORDER = (CDS, EDS, LDS, ECDS, RDS, RTDS)
# Encoded resources that are remembered of each type: more than a snapshot has of it, but not many
# more, since the route table of many models is large.
REMEMBERED = 16


@dataclass(frozen=True)
class Resource:
    """One resource, encoded."""

    packed: Any

    @cached_property
    def digest(self) -> str:
        """A hash of the content."""
        return hashlib.sha256(self.packed.value).hexdigest()[:16]


ByName = Mapping[str, Resource]
# By type URL.
Resources = Mapping[str, ByName]


def version_of(resources: ByName) -> str:
    """Return a hash of the content: equal resources have equal versions, after a restart too."""
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(f"{name}={resources[name].digest};".encode())
    return digest.hexdigest()[:16]


class Encoder:
    """Encodes snapshots. Objects that a snapshot shares with earlier ones are not encoded again."""

    def __init__(self) -> None:
        self._encoded = {
            type_url: once_for_each(partial(_encode, type_url), REMEMBERED) for type_url in ORDER
        }

    def encode(self, snapshot: Snapshot) -> Resources:
        """Return the resources by type URL."""
        return {
            CDS: self._typed(CDS, ((c.name, c) for c in snapshot.clusters)),
            EDS: self._typed(EDS, ((e.cluster_name, e) for e in snapshot.endpoints)),
            LDS: self._typed(LDS, ((x.name, x) for x in snapshot.listeners)),
            ECDS: self._typed(ECDS, ((e.name, e) for e in snapshot.extensions)),
            RDS: self._typed(RDS, ((r.name, r) for r in snapshot.routes)),
            RTDS: self._typed(RTDS, ((snapshot.runtime.name, snapshot.runtime),)),
        }

    def _typed(self, type_url: str, messages: Iterable[tuple[str, SupportsBytes]]) -> ByName:
        encoded = self._encoded[type_url]
        return {name: encoded(message) for name, message in messages}


def _encode(type_url: str, message: SupportsBytes) -> Resource:
    return Resource(Any(type_url=type_url, value=bytes(message)))
