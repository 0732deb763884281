"""Verbs about rows and batches."""

import pytest
from typer.testing import CliRunner

from mesh.v1 import data_pb2
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


def test_delete_sends_the_texts_as_they_are(stub_mesh: StubMesh) -> None:
    result = CliRunner().invoke(app, ["delete", "reviews", "My name is [b]Ann[/b].", " x "])
    assert result.exit_code == 0, result.output
    assert list(stub_mesh.calls[-1].texts) == ["My name is [b]Ann[/b].", " x "]
    assert "deleted 2 rows of reviews" in result.stdout


def test_batches_says_why_the_rows_of_a_model_do_not_get_on(stub_mesh: StubMesh) -> None:
    message = "the DAG is paused [bold]in Airflow"
    stub_mesh.troubles = [data_pb2.ModelTrouble(model="reviews", message=message)]
    result = CliRunner().invoke(app, ["batches", "reviews", "--limit", "5"])
    assert result.exit_code == 0, result.output
    assert f"reviews: {message}" in result.stdout
    assert stub_mesh.calls[-1].page_size == 5
