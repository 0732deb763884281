"""A registry of these tests' own: a replica is eligible when it serves every model in it."""

from collections.abc import Iterator

import pytest

from tests.real_parts.mlflow_server import running_mlflow


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real MLflow server in which no other test registers a model."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url
