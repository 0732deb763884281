"""One real Envoy before toy services for each module that tests its doors."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.twins.toy_mesh import ToyMesh, running_mesh


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[True, False], ids=["http1", "http2"]
)
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[ToyMesh]:
    folder, origins = tmp_path_factory.mktemp("envoy"), ("https://ui.example",)
    async with running_mesh(folder, origins, over_http1=request.param) as running:
        yield running
        warnings = running.envoy.log.read_text()
        assert warnings == "", "Envoy itself logs no warning, whatever clients send"
