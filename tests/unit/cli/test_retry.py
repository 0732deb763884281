"""`mesh retry`: a model or a batch."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from mesh_cli.main import app
from tests.twins.stub_mesh import StubMesh, running_stub_mesh


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubMesh]:
    with running_stub_mesh() as (stub, address):
        monkeypatch.setenv("MESH_ADDRESS", address)
        yield stub


@pytest.mark.parametrize(
    ("what", "model", "batch"),
    [
        ("reviews", "reviews", ""),
        ("retrain__reviews__7", "reviews", "retrain__reviews__7"),
        ("retrain__two__words__12", "two__words", "retrain__two__words__12"),
    ],
)
def test_a_batch_names_its_model(mesh: StubMesh, what: str, model: str, batch: str) -> None:
    result = CliRunner().invoke(app, ["retry", what])
    assert result.exit_code == 0, result.output
    request = mesh.calls[-1]
    assert (request.model, request.batch_id) == (model, batch)
    assert f"batch {batch or 'retrain__reviews__1'}: sealed" in result.stdout
