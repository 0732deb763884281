"""Which mesh a verb speaks to: the local one, or the one at MESH_ADDRESS."""

import os

from mesh.client import MeshClient
from mesh_cli.errors import NotUp
from mesh_cli.home import MeshSettings
from mesh_cli.mesh import LocalMesh


def local_mesh() -> LocalMesh:
    """The mesh in MESH_HOME."""
    return LocalMesh(MeshSettings())


def address() -> str:
    """host:port of the mesh. Raises NotUp when it is the local one and that is not up."""
    named = os.environ.get("MESH_ADDRESS")
    if named:
        return named
    mesh = local_mesh()
    if not mesh.is_up():
        raise NotUp(f"no mesh is up in {mesh.home.root}: run `mesh up`")
    return mesh.address


def client() -> MeshClient:
    """A client of the mesh."""
    return MeshClient(address())
