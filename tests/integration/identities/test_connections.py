"""Envoy's connections to the parts do not outlive their time, and no call notices their end."""

from pathlib import Path

import pytest

from control_plane.xds.build import _clusters
from control_plane.xds.clusters import clusters
from service_kit import server
from service_kit.identities.issuing import Issuer
from tests.real_parts.steady_load import under_load
from tests.real_parts.waiting import until_async
from tests.twins.toy_mesh import ToyMesh, running_mesh


async def no_call_fails_until_eight_are_counted(mesh: ToyMesh, statistic: str) -> None:
    """Load the mesh until the statistics of Envoy of that name have grown to 8 together."""
    async with under_load(mesh.envoy.address, "reviews", 4) as load:

        async def are_counted() -> bool:
            return sum((await mesh.envoy.stats(statistic)).values()) >= 8

        await until_async(are_counted)
        await load.more()
    assert load.failures == []
    assert mesh.envoy.log.read_text() == "", "Envoy logs no warning"


@pytest.mark.parametrize("over_http1", [True, False])
async def test_connections_are_opened_anew_under_load_without_a_failed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over_http1: bool
) -> None:
    monkeypatch.setattr(clusters, "CONNECTION_S", 1.0)
    _clusters.cache_clear()
    identities = tmp_path / "identities"
    Issuer(identities).renew()
    async with running_mesh(tmp_path, identities=identities, over_http1=over_http1) as mesh:
        opened = rf"^cluster\.{mesh.cluster}\.upstream_cx_max_duration_reached$"
        await no_call_fails_until_eight_are_counted(mesh, opened)
    _clusters.cache_clear()


async def test_servers_end_connections_under_load_without_a_failed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTION_AGE_MS", 1_000)
    identities = tmp_path / "identities"
    Issuer(identities).renew()
    async with running_mesh(tmp_path, identities=identities, over_http1=False) as mesh:
        ended = rf"^cluster\.{mesh.cluster}\.upstream_cx_close_notify$"
        await no_call_fails_until_eight_are_counted(mesh, ended)
