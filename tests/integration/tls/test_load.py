"""The load generator of `mesh bench` against Envoy's port with TLS."""

import asyncio
from pathlib import Path

import pytest

from mesh_cli.errors import CliError, NotUp
from mesh_cli.load import ClosedLoop, LoadResult, LoadSpec, OpenLoop, run_load
from mesh_cli.load.plan.spec import Protocol
from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from tests.integration.tls.conftest import Secured


async def load(address: str, ca: Path | str, protocol: Protocol, rate: float = 0) -> LoadResult:
    loop = OpenLoop(rate) if rate else ClosedLoop(4)
    spec = LoadSpec(
        address, "reviews", loop, ("good",), protocol, ca=str(ca), duration_s=0.5, warm_up_s=0.1
    )
    return await asyncio.to_thread(run_load, spec)


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_every_request_is_answered_in_either_loop(
    secured: Secured, protocol: Protocol
) -> None:
    for rate in (0, 100):
        result = await load(secured.url, secured.ca, protocol, rate)
        assert result.errors() == {}
        assert {server.replica for server, _ in result.served()} == {"r1", "r2"}


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_a_server_whose_authority_is_not_trusted_is_not_up(
    secured: Secured, tmp_path: Path, protocol: Protocol
) -> None:
    Authority.in_folder(tmp_path / "other")
    for ca in ("", tmp_path / "other" / AUTHORITY_FILE):
        with pytest.raises(NotUp, match="CERTIFICATE_VERIFY_FAILED"):
            await load(secured.url, ca, protocol)
    with pytest.raises(CliError, match="holds no certificates to trust as PEM"):
        await load(secured.url, tmp_path / "missing.pem", protocol)
