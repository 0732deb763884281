"""Fixtures that every test may use."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

from tests.real_parts.mlflow_server import running_mlflow
from tests.real_parts.postgres import new_database, running_postgres

# Examples a property test tries. The default profile tries the same ones in every run;
# `HYPOTHESIS_PROFILE=long` tries new ones, many more of them, to find new faults.
settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


class OneMesh(LoadFileScheduling):  # type: ignore[misc]  # xdist is untyped
    """Gives the tests of a file to one worker, and all acceptance tests to one worker.

    The acceptance tests share one mesh, which takes a minute to start.
    """

    def _split_scope(self, nodeid: str) -> str:
        acceptance = "tests/acceptance/"
        return acceptance if nodeid.startswith(acceptance) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Let OneMesh decide which tests run on the same worker when there are several workers."""
    return OneMesh(config, log)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server that the whole session shares."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, empty database of the test's own."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real MLflow server that the whole session shares.

    A test uses a model name that no other test uses.
    """
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url
