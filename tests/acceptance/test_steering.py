"""The control plane of the running mesh: it is killed, and it rolls a bad Challenger back."""

import asyncio
import os
import signal
import time

import httpx

from tests.whole_mesh.running_mesh import Mesh
from tests.whole_mesh.traffic import Traffic

# Exit code of `mesh canary` after a rollback.
ROLLED_BACK = 4


async def _envoy_stats(mesh: Mesh) -> dict[str, int]:
    url = f"http://127.0.0.1:{mesh.environment['MESH_ENVOY_ADMIN_PORT']}/stats"
    async with httpx.AsyncClient() as http:
        text = (await http.get(url, params={"filter": "connected_state|update_rejected"})).text
    return {
        name: int(value)
        for name, value in (line.rsplit(": ", 1) for line in text.split("\n") if line)
    }


async def test_a_killed_control_plane_fails_nothing_and_comes_back_to_the_same_state(
    mesh: Mesh, reviews: str
) -> None:
    before = await asyncio.to_thread(mesh.json, "fleet")
    parts = (await asyncio.to_thread(mesh.json, "status"))["parts"]
    pid = next(part["pid"] for part in parts if part["name"] == "control-plane")
    traffic = Traffic(mesh.address, clients=4)
    async with asyncio.TaskGroup() as group:
        # A request that fails raises here, and fails the test.
        group.create_task(traffic.run())
        await traffic.go_on()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        async with (
            asyncio.timeout(60),
            httpx.AsyncClient(base_url=mesh.url, headers=mesh.headers) as http,
        ):
            while not (await http.get("/v1/fleet")).is_success:
                await asyncio.sleep(0.05)
            while (await _envoy_stats(mesh))["control_plane.connected_state"] != 1:
                await asyncio.sleep(0.05)
        back_s = time.monotonic() - killed
        await traffic.go_on()
        traffic.stop()
    assert (await asyncio.to_thread(mesh.json, "fleet"))["models"] == before["models"]
    rejected = {k: v for k, v in (await _envoy_stats(mesh)).items() if "rejected" in k}
    assert set(rejected.values()) == {0}
    print(f"control plane back after {back_s:.1f} s, {traffic.answers.total()} requests, failed: 0")


async def test_a_bad_challenger_is_rolled_back_by_itself(mesh: Mesh, reviews: str) -> None:
    train = (
        "train",
        reviews,
        "--wait",
        "--challenger-only",
        "--epochs",
        "1",
        "--max-examples",
        "48",
    )
    await asyncio.to_thread(mesh.run, *train)
    champion = (await asyncio.to_thread(mesh.fleet_model, reviews))["championVersion"]
    traffic = Traffic(mesh.address)
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        await traffic.go_on()
        canary = ("canary", reviews, "--steps", "20,50", "--every", "30s", "--mirror", "30")
        ended = await asyncio.to_thread(lambda: mesh.run(*canary, check=False))
        assert ended.returncode == ROLLED_BACK, ended.stdout + ended.stderr
        await traffic.go_on()
        traffic.stop()
    model = await asyncio.to_thread(mesh.fleet_model, reviews)
    assert model["championVersion"] == model["servingVersion"] == champion
    split = await asyncio.to_thread(mesh.json, "traffic", reviews)
    assert (split["championWeight"], split["challengerWeight"]) == (100, 0)
    print(ended.stdout)
