"""The processes of a running mesh: their ids, killing one, waiting for its successor."""

import asyncio
import os
import signal
import time

from mesh_cli.local.home import MeshSettings
from mesh_cli.local.local_mesh import LocalMesh
from tests.whole_mesh.running_mesh import Mesh

BACK_TIMEOUT_S = 120.0


class PartsOf:
    """The parts of a running mesh, as the mesh itself knows them."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = LocalMesh(MeshSettings(home=mesh.home))

    @property
    def database_url(self) -> str:
        """URL of the training database, password included."""
        return self._mesh.database_url

    @property
    def control_plane(self) -> str:
        """host:port at which the control plane listens, without Envoy in between."""
        return f"127.0.0.1:{self._mesh.record['ports']['control-plane']}"

    def names(self) -> list[str]:
        """The names of all parts."""
        return [part.name for part in self._mesh.parts]

    def pid(self, name: str) -> int:
        """Process id of a part, 0 while it does not run."""
        return self.pids()[name]

    def pids(self) -> dict[str, int]:
        """Process ids by part, 0 for a part that does not run."""
        return {name: info["pid"] for name, info in self._mesh.processes.programs().items()}

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to the process of a part, not to its children; return its process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def problem(self, name: str) -> str:
        """The reason why a part is not healthy, as in `mesh status`; empty when it is healthy."""
        part = next(part for part in self._mesh.parts if part.name == name)
        return part.check()

    async def back(self, name: str, killed: int) -> float:
        """Wait until the part runs as another process than `killed` and is healthy.

        Returns the seconds that this took.
        """
        began = time.monotonic()
        async with asyncio.timeout(BACK_TIMEOUT_S):
            while await asyncio.to_thread(self.pid, name) in (0, killed):
                await asyncio.sleep(0.05)
            while await asyncio.to_thread(self.problem, name):
                await asyncio.sleep(0.05)
        return time.monotonic() - began
