"""Streams that a caller holds and does not use: they end, and take no place from short calls."""

import asyncio
from dataclasses import replace
from pathlib import Path
from unittest import mock

import httpx
import pytest

from control_plane.topology import Limits
from control_plane.xds.routes import route_rules
from tests.integration.abuse.honest_clients import honest_clients
from tests.real_parts.held_streams import grpc_head, held_streams
from tests.real_parts.waiting import until
from tests.twins.toy_mesh import ToyMesh, running_mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMPORT = "/mesh.v1.DataService/ImportExamples"


async def test_imports_that_are_held_take_no_place_from_other_calls_of_the_service(
    tmp_path: Path,
) -> None:
    async with (
        running_mesh(tmp_path, limits=Limits(calls_per_service=100)) as mesh,
        honest_clients(mesh.envoy),
        held_streams(mesh.envoy.address) as held,
    ):
        for _ in range(200):
            held.start(grpc_head(mesh.envoy.address, IMPORT))
        held.flush()
        await until(lambda: len(held.open) == 100)
        example = {"examples": [{"text": "a", "label": "b", "split": "train"}]}
        for _ in range(20):
            answer = await mesh.http.post("/v1/models/reviews/examples", json=example)
            assert answer.status_code == httpx.codes.OK


async def test_an_idle_import_ends(tmp_path: Path) -> None:
    rules = tuple(
        replace(rule, stream_idle_s=1.0) if rule.path == IMPORT else rule
        for rule in route_rules.RULES
    )
    route_rules.rules_over_http1.cache_clear()
    try:
        with mock.patch.object(route_rules, "RULES", rules):
            async with (
                running_mesh(tmp_path) as mesh,
                honest_clients(mesh.envoy),
                held_streams(mesh.envoy.address) as held,
            ):
                stream = held.start(grpc_head(mesh.envoy.address, IMPORT))
                held.flush()
                async with asyncio.timeout(20):
                    await until(lambda: stream not in held.open)
                assert held.statuses[stream] == "4"  # DEADLINE_EXCEEDED
    finally:
        route_rules.rules_over_http1.cache_clear()


@pytest.mark.parametrize(
    ("path", "seconds"),
    [
        (IMPORT, 30),
        ("/mesh.v1.PredictService/PredictStream", 300),
        ("/mesh.v1.TrainService/WatchTraining", 60),
    ],
)
async def test_streams_may_pause_so_long(path: str, seconds: float) -> None:
    [rule] = [rule for rule in route_rules.RULES if rule.path == path]
    assert rule.idle_s == seconds


async def test_methods_that_nobody_has_are_counted_together(mesh: ToyMesh) -> None:
    async def names() -> set[str]:
        async with httpx.AsyncClient(base_url=mesh.envoy.admin_url) as admin:
            text = (await admin.get("/stats")).text
        return {line.split(":")[0] for line in text.splitlines()}

    async def invent(word: str, count: int) -> None:
        for number in range(count):
            calls = (
                mesh.http.post(path, content=b"\0" * 5, headers={"content-type": kind})
                for path in (
                    f"/mesh.v1.PredictService/{word}{number}",
                    f"/mesh.v1.DataService/{word}{number}",
                    f"/grpc.health.v1.Health/{word}{number}",
                    f"/{word}{number}.Service/Call",
                )
                for kind in ("application/grpc", "application/grpc-web")
            )
            await asyncio.gather(*calls)

    async with honest_clients(mesh.envoy):
        await invent("First", 3)
        before = await names()
        await invent("Second", 20)
        grown = await names() - before
    assert not grown, sorted(grown)[:10]
    assert any("Predict.success" in name for name in before), "known methods are counted by name"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/quitquitquit"),
        ("POST", "/logging?level=trace"),
        ("POST", "/reset_counters"),
        ("POST", "/healthcheck/fail"),
        ("POST", "/drain_listeners"),
        ("POST", "/cpuprofiler?enable=y"),
        ("POST", "/runtime_modify?a=b"),
        ("POST", "/stats/recentlookups/enable"),
        ("POST", "/tap"),
        ("GET", "/config_dump"),
        ("GET", "/config_dump?resource=dynamic_listeners"),
        ("GET", "/server_info"),
        ("GET", "/certs"),
        ("GET", "/init_dump"),
        ("GET", "/stats/../config_dump"),
        ("GET", "/stats%2f..%2fconfig_dump"),
        ("GET", "/"),
    ],
)
async def test_envoys_admin_page_changes_nothing_and_shows_no_configuration(
    mesh: ToyMesh, method: str, path: str
) -> None:
    async with httpx.AsyncClient(base_url=mesh.envoy.admin_url) as admin:
        for verb in ("GET", "POST"):
            answer = await admin.request(verb, path)
            assert answer.status_code in (403, 404, 405), answer.text[:200]
        assert (await admin.get("/ready")).text == "LIVE\n"
    assert (await mesh.http.get("/v1/models/reviews")).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    "path", ["/ready", "/stats", "/stats?filter=grpc", "/stats/prometheus", "/clusters", "/runtime"]
)
async def test_envoys_statistics_stay_readable(mesh: ToyMesh, path: str) -> None:
    async with httpx.AsyncClient(base_url=mesh.envoy.admin_url) as admin:
        assert (await admin.get(path)).status_code == httpx.codes.OK
