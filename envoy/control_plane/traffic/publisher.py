"""Publishes the mesh as Envoy's configuration. The rest of traffic/ knows nothing of xds/."""

from control_plane.access.rules import TokenState
from control_plane.topology import MeshTopology
from control_plane.xds import DiscoveryServer, build_snapshot


class EnvoyPublisher:
    """An envoy_targets.Publisher over ADS."""

    def __init__(self, server: DiscoveryServer) -> None:
        self._server = server
        self._topology: MeshTopology | None = None
        self._tokens: TokenState | None = None

    def publish(self, topology: MeshTopology) -> None:
        """See Publisher."""
        self._topology = topology
        self._send()

    def use(self, tokens: TokenState) -> None:
        """Send every Envoy the keys and revoked tokens that have changed."""
        self._tokens = tokens
        self._send()

    def _send(self) -> None:
        topology = self._topology
        # Without keys Envoy could tell nobody apart, so it waits for them.
        if topology and (self._tokens or topology.access is None):
            self._server.publish(build_snapshot(topology, self._tokens))

    async def obstacle(self, timeout_s: float) -> str:
        """See Publisher."""
        return await self._server.obstacle(timeout_s)
