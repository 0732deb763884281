"""One mesh that serves a tiny model; it is stopped before tests of other folders run."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.real_parts.training_service import make_tiny_bert
from tests.whole_mesh.parts import PartsOf
from tests.whole_mesh.running_mesh import ROOT, Mesh, new_mesh, running_mesh
from tests.whole_mesh.turns import Undisturbed, begin

SETTINGS = {
    "TRIGGER_SEAL_QUIET_MS": "300",
    "TRAINING_CHECKPOINT_SECONDS": "0.5",
    "MESH_DAGS": str(ROOT / "dags"),
}


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A whole mesh, Airflow included, that trains a tiny model within seconds."""
    base = make_tiny_bert(tmp_path_factory.mktemp("tiny-base"))
    mesh = new_mesh(tmp_path_factory.mktemp("mesh"))
    settings = {**SETTINGS, "TRAINING_BASE_MODEL": str(base)}
    yield from running_mesh(replace(mesh, environment=mesh.environment | settings))


@pytest.fixture(scope="package")
def parts(mesh: Mesh) -> PartsOf:
    """The processes of the mesh."""
    return PartsOf(mesh)


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the CSV files that tests import."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="package")
def served(mesh: Mesh, parts: PartsOf, folder: Path) -> Undisturbed:
    """A model in service, and the seconds that its first turn of the loop took."""

    async def serve() -> Undisturbed:
        turn = await begin(mesh, parts.database_url, folder)
        return Undisturbed(turn.model, await turn.ended(mesh.address))

    return asyncio.run(serve())
