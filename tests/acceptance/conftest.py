"""One mesh with a model `reviews` that serves; it is gone before other tests run."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole_mesh.running_mesh import ROOT, Mesh, new_mesh

SAMPLES = ROOT / "mesh_cli" / "sample_data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The mesh, Airflow included, takes its time to start, and that counts for the first test."""
    for item in items:
        if "acceptance" in str(item.path):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A whole mesh, Airflow included."""
    if not (ROOT / ".venv-airflow" / "bin" / "airflow").exists():
        pytest.fail("Airflow's environment is missing: run `make install`")
    mesh = new_mesh(tmp_path_factory.mktemp("mesh"))
    mesh.run("up", "--detach")
    yield mesh
    mesh.run("down")
    left = subprocess.run(["pgrep", "-f", str(mesh.home)], capture_output=True, text=True)
    assert left.stdout == "", f"`mesh down` left processes behind: {left.stdout}"


@pytest.fixture(scope="package")
def reviews(mesh: Mesh) -> str:
    """A model in service, trained by a whole turn of the loop on a few rows."""
    first, test = SAMPLES / "reviews_first.csv", SAMPLES / "reviews_test.csv"
    answer = mesh.json("import", "reviews", first, "--test", test, "--wait")
    assert answer["batch"]["state"] == "BATCH_STATE_SUCCEEDED", answer
    return "reviews"


@pytest.fixture(scope="package")
def sample_rows() -> Path:
    """More labelled reviews, to be inserted later."""
    return SAMPLES / "reviews_more.csv"
