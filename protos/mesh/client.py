"""Client of the mesh, sync (`MeshClient`) and async (`AsyncMeshClient`).

Both have the same methods. Each call has a deadline, carries a request id when it changes
something, is sent again by itself when the mesh was not there, and raises a class of
`mesh.errors` otherwise. Messages are those of `mesh.v1`.
"""

from mesh._async.client import AsyncMeshClient
from mesh._sync.client import MeshClient

__all__ = ["AsyncMeshClient", "MeshClient"]
