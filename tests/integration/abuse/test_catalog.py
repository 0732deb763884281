"""Every abuse of `python -m bench.abuse`, for a moment: no honest client may notice it."""

import pytest

from bench.abuse.catalog import ABUSES, abuse
from bench.abuse.target import Target
from tests.integration.abuse.honest_clients import honest_clients
from tests.real_parts.tokens import SigningKey
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 0.5


@pytest.mark.parametrize("name", ABUSES)
async def test_nobody_but_the_abuser_notices(mesh: ToyMesh, name: str) -> None:
    token = SigningKey("bench").token("predict")
    target = Target(mesh.envoy.address, mesh.servers[0].address, token)
    async with honest_clients(mesh.envoy) as honest:
        tally = await abuse(ABUSES[name], target, SECONDS)
        await honest.more()
    assert tally.requests
    print(name, tally)
