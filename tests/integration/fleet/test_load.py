"""The load generator through a real Envoy."""

from pathlib import Path

import pytest

from mesh_cli.load import ClosedLoop, LoadSpec, OpenLoop, generate
from tests.twins.toy_mesh import running_mesh

TEXTS = tuple(f"text number {number}" for number in range(100))


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_every_request_is_answered_by_both_replicas(protocol: str, tmp_path: Path) -> None:
    async with running_mesh(tmp_path) as mesh:
        # The number of requests within a second depends on the machine.
        for loop, least in ((OpenLoop(100, "poisson"), 70), (ClosedLoop(16), 16)):
            spec = LoadSpec(
                mesh.envoy.address, "reviews", loop, TEXTS, protocol,  # type: ignore[arg-type]
                texts_per_request=40, duration_s=1.0, warm_up_s=0.2,
            )  # fmt: skip
            result = await generate(spec)
            assert result.errors() == {}
            assert result.sent() >= least
            assert {server.replica for server, _ in result.served()} == {"r1", "r2"}


async def test_errors_of_envoy_have_the_same_name_as_elsewhere(tmp_path: Path) -> None:
    async with running_mesh(tmp_path) as mesh:
        spec = LoadSpec(
            mesh.envoy.address, "reviews", ClosedLoop(2), TEXTS, duration_s=0.3, warm_up_s=0.0,
            path="/mesh.v1.Nothing/Here",
        )  # fmt: skip
        assert len((await generate(spec)).errors()) == 1
