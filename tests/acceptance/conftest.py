"""One mesh that serves a model `reviews`; it is stopped before tests of other folders run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole_mesh.running_mesh import ROOT, Mesh, new_mesh, running_mesh

SAMPLES = ROOT / "mesh_cli" / "sample_data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test 15 minutes: the first one's time includes the start of the whole mesh."""
    for item in items:
        if "acceptance" in str(item.path):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A whole mesh, Airflow included."""
    yield from running_mesh(new_mesh(tmp_path_factory.mktemp("mesh")))


@pytest.fixture(scope="package")
def reviews(mesh: Mesh) -> str:
    """Name of a model in service, which a whole turn of the loop trained on a few rows."""
    first, test = SAMPLES / "reviews_first.csv", SAMPLES / "reviews_test.csv"
    answer = mesh.json("import", "reviews", first, "--test", test, "--wait")
    assert answer["batch"]["state"] == "BATCH_STATE_SUCCEEDED", answer
    return "reviews"


@pytest.fixture(scope="package")
def sample_rows() -> Path:
    """File with more labelled reviews, for a test to insert."""
    return SAMPLES / "reviews_more.csv"
