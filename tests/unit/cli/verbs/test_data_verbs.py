"""`mesh retry`: a model or a batch."""

import pytest
from typer.testing import CliRunner

from mesh_cli.main import app
from tests.twins.stub_mesh import StubMesh


@pytest.mark.parametrize(
    ("argument", "model", "batch"),
    [
        ("reviews", "reviews", ""),
        ("retrain__reviews__7", "reviews", "retrain__reviews__7"),
        ("retrain__two__words__12", "two__words", "retrain__two__words__12"),
    ],
)
def test_retry_takes_a_model_or_a_batch(
    stub_mesh: StubMesh, argument: str, model: str, batch: str
) -> None:
    result = CliRunner().invoke(app, ["retry", argument])
    assert result.exit_code == 0, result.output
    request = stub_mesh.calls[-1]
    assert (request.model, request.batch_id) == (model, batch)
    assert f"batch {batch or 'retrain__reviews__1'}: sealed" in result.stdout
