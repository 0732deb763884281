"""Time from a change of the fleet to the encoded configuration for Envoy, by size of the fleet.

`python -m bench.fleet_size` simulates fleets of up to 50 replicas x 20 models without a network:
one replica falls behind with one model, and catches up. It measures the time from the new state of
the fleet to the encoded responses for one Envoy, and their size.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest
from rich.console import Console
from rich.table import Table

from control_plane.changes.model_locks import ModelLocks
from control_plane.fleet.fleet import Member
from control_plane.fleet.replica_client import ReplicaState, Role, Slot, SlotState
from control_plane.models.stored_split import TAG_TRAFFIC, StoredSplit
from control_plane.topology import Address, MeshTopology, Split
from control_plane.traffic.envoy_targets import EnvoyTargets
from control_plane.xds import build_snapshot
from control_plane.xds.stream.resources import CDS, EDS, LDS, RDS, Encoder, Resources
from control_plane.xds.stream.stream import AdsStream
from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef

SIZES = ((2, 1), (10, 5), (25, 10), (20, 50), (50, 20), (100, 20))
CHANGES = 100
NAMES = {EDS: ["champion", "challenger"], RDS: ["mesh"]}
TOPOLOGY = MeshTopology((), Address("10.1.0.1", 1), Address("10.1.0.2", 1), Address("10.1.0.3", 1))


class _Client:
    """The part of a ReplicaClient that EnvoyTargets needs: its address."""

    def __init__(self, number: int) -> None:
        self.address = f"10.0.{number // 250}.{number % 250 + 1}:9000"


@dataclass
class Envoy:
    """A Publisher with one Envoy that accepts every response at once."""

    def __post_init__(self) -> None:
        self.encoder = Encoder()
        self.stream = AdsStream()
        for type_url in (CDS, EDS, LDS, RDS):
            request = DiscoveryRequest(type_url=type_url, resource_names=NAMES.get(type_url, []))
            self.stream.take(request)
        self.resources = 0
        self.sent_bytes = 0

    def publish(self, topology: MeshTopology) -> None:
        """Encode the change and have Envoy accept it."""
        resources = self.encoder.encode(build_snapshot(topology))
        while self._round(resources):
            pass

    def _round(self, resources: Resources) -> bool:
        responses = [(response, bytes(response)) for response in self.stream.responses(resources)]
        for response, encoded in responses:
            self.resources += len(response.resources)
            self.sent_bytes += len(encoded)
            self.stream.take(
                DiscoveryRequest(
                    type_url=response.type_url,
                    response_nonce=response.nonce,
                    resource_names=NAMES.get(response.type_url, []),
                )
            )
        return bool(responses)

    async def obstacle(self, timeout_s: float) -> str:
        """See Publisher."""
        return ""


def fleet(replicas: int, models: int, stale: bool) -> list[Member]:
    """A fleet whose models all have a Challenger. `stale`: the first replica has an old version."""
    members = []
    for number in range(replicas):
        slots = []
        for model in range(models):
            version = "1" if stale and number == model == 0 else "2"
            slots.append(Slot(f"model_{model}", version, SlotState.SERVING))
            slots.append(Slot(f"model_{model}", "3", SlotState.SERVING, Role.CHALLENGER))
        client: Any = _Client(number)
        members.append(
            Member(client, ReplicaState(f"r{number}", "cpu", tuple(slots)), f"r{number}")
        )
    return members


def measure(replicas: int, models: int) -> tuple[list[float], float, float]:
    """Milliseconds of each change, and the mean resources and bytes sent for a change."""
    split = StoredSplit(Split(90, 10, 5), VersionRef("3")).tag()
    registered = [
        RegisteredModel(f"model_{n}", {SERVING: "2"}, {TAG_TRAFFIC: split}) for n in range(models)
    ]
    envoy = Envoy()
    targets = EnvoyTargets(TOPOLOGY, envoy, ModelLocks(), time.monotonic)
    states = [fleet(replicas, models, stale) for stale in (False, True)]
    targets.update(registered, states[0])
    envoy.resources = envoy.sent_bytes = 0
    taken = []
    for number in range(CHANGES):
        started = time.perf_counter()
        targets.update(registered, states[(number + 1) % 2])
        taken.append((time.perf_counter() - started) * 1e3)
    return taken, envoy.resources / CHANGES, envoy.sent_bytes / CHANGES


def main() -> None:
    """Measure and print."""
    columns = ("replicas", "models", "median ms", "p99 ms", "resources sent", "bytes sent")
    table = Table(*columns, title="One replica's change, to the encoded answer")
    for replicas, models in SIZES:
        taken, resources, size = measure(replicas, models)
        p99 = statistics.quantiles(taken, n=100)[98]
        table.add_row(
            *(str(replicas), str(models), f"{statistics.median(taken):.2f}", f"{p99:.2f}"),
            *(f"{resources:.1f}", f"{size:,.0f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
