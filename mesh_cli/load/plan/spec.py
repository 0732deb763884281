"""The description of a load: its server, its requests, its speed, its length."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mesh_cli.errors import BadInput

Arrivals = Literal["constant", "poisson"]
Protocol = Literal["grpc", "json"]

HTTPS = "https://"
# Seconds after which an unanswered request counts as an error.
TIMEOUT_S = 10.0
# Connections over which JSON is sent at most. Further requests wait in the generator, and their
# latency contains the wait.
MAX_CONNECTIONS = 512


@dataclass(frozen=True)
class OpenLoop:
    """Requests leave at their moments, whether or not earlier ones are answered."""

    rate: float
    """Requests a second."""
    arrivals: Arrivals = "constant"
    """Equal gaps, or a Poisson process."""
    seed: int = 0
    """Seed of the Poisson process."""


@dataclass(frozen=True)
class ClosedLoop:
    """Each client sends its next request when its last is answered."""

    clients: int


@dataclass(frozen=True)
class LoadSpec:
    """One load. Raises BadInput for values that make no sense."""

    address: str
    """host:port, or https://host:port for TLS."""
    model: str
    loop: OpenLoop | ClosedLoop
    texts: tuple[str, ...] = ()
    """Sent in this order, and again from the first when all have been sent."""
    protocol: Protocol = "grpc"
    texts_per_request: int = 1
    duration_s: float = 20.0
    """Measured seconds; the warm-up comes before them."""
    warm_up_s: float = 3.0
    timeout_s: float = TIMEOUT_S
    channels: int = 1
    """Number of gRPC connections, which are used in turn."""
    ca: str = ""
    """PEM file of the authorities that are trusted with TLS; empty: the usual ones."""
    token: str = ""
    """The caller's token; empty: none is sent."""
    path: str = ""
    """HTTP path or gRPC method. Empty: Predict of the mesh."""
    bodies: tuple[bytes, ...] = ()
    """Encoded requests that are sent in place of `texts`, for servers that are no mesh."""

    def __post_init__(self) -> None:
        speed = self.loop.rate if isinstance(self.loop, OpenLoop) else self.loop.clients
        kind = "rate" if isinstance(self.loop, OpenLoop) else "clients"
        positive = {
            kind: speed,
            "duration": self.duration_s,
            "timeout": self.timeout_s,
            "texts per request": self.texts_per_request,
            "channels": self.channels,
        }
        for name, value in positive.items():
            if not value > 0:
                raise BadInput(f"{name} is {value}; it must be above 0")
        if self.warm_up_s < 0:
            raise BadInput(f"warm-up is {self.warm_up_s}; it must not be below 0")
        if not self.texts and not self.bodies:
            raise BadInput("there are no texts to send")
        host, _, port = self.authority.rpartition(":")
        if not host or not port.isdigit() or "/" in self.authority:
            raise BadInput(f"address {self.address!r} is not host:port or https://host:port")

    @property
    def authority(self) -> str:
        """The address as host:port."""
        return self.address.removeprefix(HTTPS)

    @property
    def tls(self) -> bool:
        """Whether the connections have TLS."""
        return self.address.startswith(HTTPS)

    def to_json(self) -> str:
        """The spec as `python -m mesh_cli.load` reads it."""
        document = asdict(self)
        document["bodies"] = [base64.b64encode(body).decode() for body in self.bodies]
        return json.dumps(document)


def spec_from_json(document: str) -> LoadSpec:
    """Read a spec that `to_json` wrote. Raises BadInput for any other document."""
    try:
        fields: dict[str, Any] = json.loads(document)
        fields["loop"] = _loop(fields["loop"])
        fields["texts"] = tuple(fields.get("texts", ()))
        fields["bodies"] = tuple(base64.b64decode(body) for body in fields.get("bodies", ()))
        return LoadSpec(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"this is no load: {type(error).__name__}: {error}") from None


def _loop(fields: Mapping[str, Any]) -> OpenLoop | ClosedLoop:
    return OpenLoop(**fields) if "rate" in fields else ClosedLoop(**fields)
