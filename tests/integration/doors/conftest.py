"""One real Envoy before toy services for each module that tests what its doors refuse."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.twins.toy_mesh import ToyMesh, running_mesh

ORIGIN = "https://ui.example"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToyMesh]:
    async with running_mesh(tmp_path_factory.mktemp("doors"), (ORIGIN,)) as running:
        yield running
        warnings = running.envoy.log.read_text()
        assert warnings == "", "Envoy itself logs no warning, whatever clients send"
