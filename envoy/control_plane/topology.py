"""An immutable description of the mesh, from which Envoy's configuration is made."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from control_plane.access.rules import AccessRules

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
# Predictions that may wait or run for each replica. Envoy refuses further ones, since more calls in
# flight make answers later and not more; its refusal costs a tenth of a replica's. 32 calls keep a
# replica busy, and with 64 an answer takes twice as long. A limit of 48 refused some calls of an
# open loop at 70 % of the capacity when the machine was slow for a moment.
CALLS_PER_REPLICA = 64
# While replicas prepare a version they are slower for some seconds, so Envoy then allows this many
# times as many calls to wait: a request that waits is better than one that is refused. With 2, 55
# of 87,112 requests were refused beside 30 Reloads at half of the capacity, while the machine was
# slow.
CALLS_WHILE_PREPARING = 4
# The calls of two replicas, so that a replica that is left alone is not full at once.
CALLS_AT_LEAST = 128
# Limit of the calls that are no predictions, and of predictions until the fleet's limit is known.
UNCOUNTED_CALLS = 131_072
CALLS_PER_SERVICE = 1024
# Envoy gives a unary call to another replica as well when its own replica has shown no sign of work
# on it for this time, seconds.
STALLED_AFTER_S = 8.0
# Above what a fleet of several machines answers; a caller that sends more only fills the queues.
CALLS_PER_SECOND = 2_000
# An open connection takes up to 60 KB of Envoy's memory, and one of the files that a process may
# have open, often 20,000. So many take three quarters of the memory (xds/overload.py), and leave
# the files that Envoy needs for connections to the services.
MAX_CLIENT_CONNECTIONS = 5_000
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_ADMIN_PORT = 9901
DEFAULT_NODE_ID = "mesh-envoy"
# Envoy's admin page can stop Envoy, so it is never reachable from another machine.
ADMIN_HOST = "127.0.0.1"


@dataclass(frozen=True, order=True)
class Address:
    """A host, which is an IP address or a DNS name, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port` or `[ipv6]:port`. Raises ValueError, which says what is wrong."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address; host:port is needed, port 1 to 65535")
        return cls(host, int(port))

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, which needs no lookup."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, order=True)
class Split:
    """A model's traffic: the weights of Champion and Challenger, which make 100, and the percentage
    of requests that is mirrored to the Challenger."""

    champion: int = 100
    challenger: int = 0
    mirror_percent: int = 0

    @property
    def tries_challenger(self) -> bool:
        """Whether any requests reach the Challenger."""
        return bool(self.challenger or self.mirror_percent)


ALL_TO_THE_CHAMPION = Split()


class AnsweredBy(Enum):
    """The replicas that answer for a model."""

    EVERY = 1
    SOME = 2
    NONE = 3


@dataclass(frozen=True)
class ModelTraffic:
    """A model whose calls do not simply go to any replica's Champion."""

    model: str
    split: Split = ALL_TO_THE_CHAMPION
    answered_by: AnsweredBy = AnsweredBy.EVERY


@dataclass(frozen=True)
class Limits:
    """Limits that Envoy enforces."""

    max_body_bytes: int = MAX_BODY_BYTES
    """Largest JSON body of a request, bytes."""

    max_response_bytes: int = MAX_RESPONSE_BYTES
    """Largest answer that Envoy turns into JSON, bytes."""

    calls_per_replica: int = CALLS_PER_REPLICA
    """Predictions in flight for each replica, queued ones included; Envoy refuses further ones."""

    calls_at_least: int = CALLS_AT_LEAST
    """Predictions in flight that all replicas together are allowed, however few there are."""

    calls_per_service: int = CALLS_PER_SERVICE
    """Calls in flight for each of the other services."""

    max_connections: int = MAX_CLIENT_CONNECTIONS
    """Connections of clients."""

    calls_per_second: int = CALLS_PER_SECOND
    """Calls a second of one subject, or without a token of one address; 0: no limit. A mesh that is
    published on loopback only has no such limit."""


@dataclass(frozen=True)
class MeshTopology:
    """Everything that Envoy's configuration is made from."""

    replicas: tuple[Address, ...]
    """gRPC addresses of the inference replicas that get traffic."""

    training: Address
    trigger: Address
    control_plane: Address

    replicas_http: tuple[Address, ...] = ()
    """HTTP addresses of the replicas that have one (Open Inference Protocol)."""

    replicas_unary: tuple[Address, ...] = ()
    """Addresses at which replicas take unary gRPC calls over HTTP/1.1; some may have none."""

    preparing: bool = False
    """Replicas prepare a version beside their work, or did seconds ago: more requests may wait."""

    splits: tuple[tuple[str, Split], ...] = ()
    """Models and their splits, ordered by model. All traffic of any other model goes to its
    Champion."""

    partly_served: tuple[tuple[str, frozenset[Address]], ...] = ()
    """Models for which not every replica answers, ordered by model, and every address, of whatever
    port, of the replicas that do. Any replica answers for any other model."""

    host: str = DEFAULT_HOST
    """IP address that clients connect to."""

    port: int = DEFAULT_PORT
    admin_port: int = DEFAULT_ADMIN_PORT
    """Port of Envoy's admin page, which is always on loopback."""

    certificates: tuple[str, ...] = ()
    """Paths, where Envoy runs, of the files that each name a certificate and its key, which it
    shows to clients (see xds/listener/tls.py); empty: clients come without TLS."""

    identity: str = ""
    """Folder, where Envoy runs, of the files that name the certificate which Envoy shows to the
    parts (see xds/clusters/part_tls.py); empty: it speaks with them in plain text."""

    node_id: str = DEFAULT_NODE_ID
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser (CORS), such as https://ui.example; "*": all."""

    allowed_hosts: tuple[str, ...] = ()
    """Further names by which clients may reach the mesh, such as mesh.example.com or *.example.com.
    Its IP addresses and names without a dot are always taken. "*": any name; so it is, without a
    list, when the mesh is published on more than loopback."""

    published_on: str = ""
    """IP address on which clients find the mesh, when that is not `host`; in a container only the
    container's owner knows it."""
    access: AccessRules | None = None
    """Who may call; None: anybody may call everything."""

    limits: Limits = field(default_factory=Limits)
    stalled_after_s: float = STALLED_AFTER_S
    """Seconds without a sign of work after which Envoy gives a unary call to another replica as
    well."""

    @property
    def on_loopback(self) -> bool:
        """Whether only clients of this machine can reach the mesh."""
        return ipaddress.ip_address(self.published_on or self.host).is_loopback

    @property
    def fixed(self) -> "MeshTopology":
        """The description without the parts that change while Envoy runs: replicas, splits, who
        serves what, and whether a version is being prepared."""
        return replace(
            self,
            replicas=(),
            replicas_http=(),
            replicas_unary=(),
            preparing=False,
            splits=(),
            partly_served=(),
        )

    @property
    def special_models(self) -> tuple[ModelTraffic, ...]:
        """The models that are split or partly served, ordered by name."""
        splits, served = dict(self.splits), dict(self.partly_served)
        return tuple(
            ModelTraffic(model, splits.get(model, ALL_TO_THE_CHAMPION), _answered_by(model, served))
            for model in sorted(splits.keys() | served.keys())
        )

    @property
    def models_by_address(self) -> dict[Address, tuple[str, ...]]:
        """The partly served models that each address answers for; empty when there are none."""
        if not self.partly_served:
            return {}
        return {
            address: tuple(model for model, having in self.partly_served if address in having)
            for address in (*self.replicas, *self.replicas_http, *self.replicas_unary)
        }

    @property
    def complete(self) -> frozenset[Address]:
        """Addresses of the replicas that answer for every model for which any replica does; empty
        when no model is partly served."""
        served = [having for _, having in self.partly_served if having]
        return frozenset.intersection(*served) if served else frozenset()

    @property
    def all_take_unary(self) -> bool:
        """Whether every replica takes unary calls over HTTP/1.1."""
        return len(self.replicas_unary) == len(self.replicas)

    def __post_init__(self) -> None:
        if not Address(self.host, self.port).is_ip:
            raise ValueError(f"host {self.host!r} is not an IP address; Envoy listens on one only")
        if self.published_on and not Address(self.published_on, self.port).is_ip:
            raise ValueError(f"published_on {self.published_on!r} is not an IP address")


def _answered_by(model: str, served: Mapping[str, frozenset[Address]]) -> AnsweredBy:
    if model not in served:
        return AnsweredBy.EVERY
    return AnsweredBy.SOME if served[model] else AnsweredBy.NONE
