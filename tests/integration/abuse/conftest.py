"""One real Envoy, before toy services or a replica, for each module that abuses its doors."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.open_inference.conftest import mesh as one_replica
from tests.twins.toy_mesh import ToyMesh, running_mesh

__all__ = ["one_replica"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToyMesh]:
    async with running_mesh(tmp_path_factory.mktemp("abuse")) as running:
        yield running
