"""Fixtures that every test may use."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlflow_server import running_mlflow
from tests.postgres import execute, running_postgres, with_database

ACCEPTANCE = Path(__file__).parent / "acceptance"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what stays together when tests run in parallel: a file, and all of the acceptance tests.

    These share one mesh, which takes a minute to start.
    """
    for item in items:
        group = ACCEPTANCE if item.path.is_relative_to(ACCEPTANCE) else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server that the whole session shares."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    yield with_database(postgres_server, name)
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real MLflow server that the whole session shares: use model names of your own."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url
