"""Twins of Docker and of a mesh for tests of the command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_cli.deployments import fleet_wait
from mesh_cli.verbs import context
from tests.twins.stub_mesh import StubMesh, running_stub_mesh
from tests.unit.cli.compose_command import ComposeCommand
from tests.unit.cli.docker_twin import TwinDocker


@pytest.fixture
def stub_mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubMesh]:
    """A mesh of scripted answers at MESH_ADDRESS."""
    with running_stub_mesh() as (stub, address):
        monkeypatch.setenv("MESH_ADDRESS", address)
        yield stub


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwinDocker]:
    """The `docker` command of the context `compose`."""
    twin = TwinDocker(tmp_path)
    monkeypatch.setattr(context, "Engine", lambda _folder: twin.engine)
    monkeypatch.setattr("mesh_cli.compose.initialise.os.chown", lambda *_: None)
    monkeypatch.delenv("MESH_ADDRESS", raising=False)
    yield twin
    context.choose(context.LOCAL)


@pytest.fixture
def compose(docker: TwinDocker, monkeypatch: pytest.MonkeyPatch) -> Iterator[ComposeCommand]:
    """The command over a twin of Docker with two replicas."""
    monkeypatch.setattr(fleet_wait, "POLL_S", 0)
    with running_stub_mesh() as (stub, address):
        stub.replicas = docker.fleet_replicas
        yield ComposeCommand(docker, address)
