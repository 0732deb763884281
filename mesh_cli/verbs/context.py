"""Which mesh a verb speaks to: local processes, containers, or the address MESH_ADDRESS."""

import os
from contextvars import ContextVar

from mesh.client import MeshClient
from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.compose.engine import Engine
from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import BadInput
from mesh_cli.local.home import MeshSettings, compose_folder
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.local.local_mesh import LocalMesh

LOCAL, COMPOSE = "local", "compose"

_chosen: ContextVar[str] = ContextVar("context", default=LOCAL)


def choose(name: str) -> None:
    """Make `local` or `compose` the mesh of all verbs from now on. Raises BadInput."""
    if name not in (LOCAL, COMPOSE):
        raise BadInput(f"--context is {LOCAL} or {COMPOSE}, not {name!r}")
    _chosen.set(name)


def chosen() -> str:
    """Name of the chosen mesh, `local` or `compose`."""
    return _chosen.get()


def deployment() -> Deployment:
    """The chosen mesh, whether it is up or not."""
    if chosen() == COMPOSE:
        return compose_deployment()
    return LocalDeployment(local_mesh())


def compose_deployment() -> ComposeDeployment:
    """The mesh in containers."""
    return ComposeDeployment(Engine(compose_folder()))


def local_mesh() -> LocalMesh:
    """The mesh in MESH_HOME."""
    return LocalMesh(MeshSettings())


def address() -> str:
    """MESH_ADDRESS, else host:port of the chosen mesh. Raises NotUp when that is not up."""
    return os.environ.get("MESH_ADDRESS") or deployment().address


def client() -> MeshClient:
    """A client of the mesh at `address()`. Raises NotUp."""
    return MeshClient(address())
