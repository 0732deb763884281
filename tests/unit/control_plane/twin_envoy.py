"""An in-memory twin of every Envoy that the control plane configures."""

from control_plane.topology import Address, MeshTopology, Split

TOPOLOGY = MeshTopology((), Address("t", 1), Address("d", 1), Address("c", 1))


class TwinEnvoy:
    """Takes every configuration, unless there is an obstacle."""

    def __init__(self) -> None:
        self.topology = TOPOLOGY
        self.in_the_way = ""

    @property
    def replicas(self) -> list[str]:
        """Hosts that get traffic."""
        return [address.host for address in self.topology.replicas]

    @property
    def http_listeners(self) -> list[str]:
        """Addresses that get traffic over HTTP."""
        return [str(address) for address in self.topology.replicas_http]

    @property
    def unary(self) -> list[str]:
        """Addresses that get unary calls over HTTP/1.1."""
        return [str(address) for address in self.topology.replicas_unary]

    def publish(self, topology: MeshTopology) -> None:
        self.topology = topology

    def split(self, model: str) -> Split | None:
        """How the calls for a model are split; None: they are not."""
        return dict(self.topology.splits).get(model)

    def answering(self, model: str) -> list[str]:
        """Hosts that get the calls for a model."""
        partly = dict(self.topology.partly_served)
        addresses = partly.get(model, frozenset(self.topology.replicas))
        return sorted({address.host for address in addresses})

    async def obstacle(self, timeout_s: float) -> str:
        return self.in_the_way
