"""Publishes the mesh as Envoy's configuration. The rest of traffic/ knows nothing of xds/."""

from control_plane.topology import MeshTopology
from control_plane.xds import DiscoveryServer, build_snapshot


class EnvoyPublisher:
    """An envoy_targets.Publisher over ADS."""

    def __init__(self, server: DiscoveryServer) -> None:
        self._server = server

    def publish(self, topology: MeshTopology) -> None:
        """See Publisher."""
        self._server.publish(build_snapshot(topology))

    async def obstacle(self, timeout_s: float) -> str:
        """See Publisher."""
        return await self._server.obstacle(timeout_s)
