"""What the mesh is made of, as far as Envoy has to know: an immutable description."""

import ipaddress
from dataclasses import dataclass, field, replace

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
# Predictions that wait or run. Beyond it Envoy refuses, for a tenth of what a replica's refusal
# costs: more calls in flight make answers later, not more. 32 keep a replica busy; with twice as
# many an answer takes twice as long. 48 refused some of an open loop at 70 % of the capacity, when
# the machine was slow for a moment.
CALLS_PER_REPLICA = 64
# So many times as many while replicas prepare a version: for some seconds they are slower, and a
# request that waits is better off than one that is refused. With 2, 55 of 87,112 were refused
# beside 30 Reloads at half of the capacity, while the machine was slow.
CALLS_WHILE_PREPARING = 4
# What two replicas take, so that one that is left alone does not refuse at once.
CALLS_AT_LEAST = 128
# What is no prediction; and predictions until the fleet's own limit is known.
UNCOUNTED_CALLS = 131_072
CALLS_PER_SERVICE = 1024
MAX_CLIENT_CONNECTIONS = 50_000
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_ADMIN_PORT = 9901
DEFAULT_NODE_ID = "mesh-envoy"
# Envoy's admin page can stop it, so it is never reachable from elsewhere.
ADMIN_HOST = "127.0.0.1"


@dataclass(frozen=True, order=True)
class Address:
    """A host, which is an IP address or a DNS name, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port` or `[ipv6]:port`. Raises ValueError that says what is wrong."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address; host:port is needed, port 1 to 65535")
        return cls(host, int(port))

    @property
    def is_ip(self) -> bool:
        """The host needs no resolution."""
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
    """Weights of Champion and Challenger, which make 100, and the percentage that is mirrored."""

    champion: int = 100
    challenger: int = 0
    mirror_percent: int = 0

    @property
    def tries_challenger(self) -> bool:
        """Some requests reach the Challenger."""
        return bool(self.challenger or self.mirror_percent)


ALL_TO_THE_CHAMPION = Split()


@dataclass(frozen=True)
class Limits:
    """Bounds that Envoy holds."""

    max_body_bytes: int = MAX_BODY_BYTES
    """Largest JSON body of a request."""

    max_response_bytes: int = MAX_RESPONSE_BYTES
    """Largest answer that is turned into JSON."""

    calls_per_replica: int = CALLS_PER_REPLICA
    """Predictions in flight, queued ones included, for each replica; beyond that Envoy refuses."""

    calls_at_least: int = CALLS_AT_LEAST
    """The same for all replicas together, however few they are."""

    calls_per_service: int = CALLS_PER_SERVICE
    """Calls in flight for each of the other services."""

    max_connections: int = MAX_CLIENT_CONNECTIONS
    """Client connections."""


@dataclass(frozen=True)
class MeshTopology:
    """Everything that Envoy's configuration is made from."""

    replicas: tuple[Address, ...]
    """gRPC addresses of the inference replicas that get traffic."""

    training: Address
    trigger: Address
    control_plane: Address

    replicas_http: tuple[Address, ...] = ()
    """HTTP addresses of those that have one (Open Inference Protocol)."""

    replicas_unary: tuple[Address, ...] = ()
    """Where those that take unary gRPC calls over HTTP/1.1 take them."""

    preparing: bool = False
    """Replicas prepare a version beside their work, or just did: more requests may wait."""

    splits: tuple[tuple[str, Split], ...] = ()
    """Model and split, ordered by model; a model that is not here is its Champion's alone."""

    host: str = DEFAULT_HOST
    """IP address that clients connect to."""

    port: int = DEFAULT_PORT
    admin_port: int = DEFAULT_ADMIN_PORT
    """Envoy's admin page; on loopback always."""

    node_id: str = DEFAULT_NODE_ID
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages browsers may let in (CORS), for example https://ui.example; "*": all."""

    limits: Limits = field(default_factory=Limits)

    @property
    def fixed(self) -> "MeshTopology":
        """The part that never changes while Envoy runs: all but replicas, splits and limits."""
        return replace(
            self, replicas=(), replicas_http=(), replicas_unary=(), preparing=False, splits=()
        )

    @property
    def all_take_unary(self) -> bool:
        """No replica needs HTTP/2 for a unary call."""
        return len(self.replicas_unary) == len(self.replicas)

    def __post_init__(self) -> None:
        if not Address(self.host, self.port).is_ip:
            raise ValueError(f"host {self.host!r} is not an IP address; Envoy listens on one only")
