"""What the strict check of JSON costs Envoy.

`python -m bench.doors.json_check`: two Envoys, one with the check and one without, stand before the
same service without a model and get the same loads in turn. The difference is the check's: CPU time
of Envoy for a request of one text and for bodies of 8 MiB, and how long a small request waits at
most while such bodies pass.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, cast

import httpx
import typer
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.google.protobuf import Any as AnyMessage
from rich.console import Console
from rich.progress import track

from bench.kit.load_figures import Figures, measure_load
from bench.kit.results import Section, record
from bench.kit.server_process import ServerProcess
from control_plane.topology import Address, MeshTopology
from control_plane.xds import build_snapshot
from control_plane.xds.basics import names
from control_plane.xds.bootstrap import bootstrap
from mesh_cli.load import ClosedLoop, LoadSpec
from tests.real_parts.envoy import envoy_binary
from tests.real_parts.postgres import free_port
from tests.twins.toy_mesh import unary_address
from tests.twins.toy_services import REPLICA, ToyData, ToyPredict, toy_server

CLIENTS = 8
TEXT = "a gripping film that never lets go of you until its very last scene"
PREDICT, ADD = "/v1/models/reviews:predict", "/v1/models/reviews/examples"
# Bodies of nearly 8 MiB, each of a kind that costs the check something else.
LARGE = {
    "250 texts of 32,000 letters": (PREDICT, json.dumps({"texts": ["a" * 32_000] * 250})),
    "10,000 examples": (
        ADD,
        json.dumps({"examples": [{"text": "t" * 750, "label": "x"}] * 10_000}),
    ),
    "escape sequences alone": (PREDICT, '{"texts":["' + "\\n" * 4_190_000 + '"]}'),
    "white space alone": (PREDICT, '{"texts":["a"]' + "\n" * 8_380_000 + "}"),
}
console = Console()


@dataclass(frozen=True)
class Large:
    """Envoy's CPU for one large body, and the longest wait of small requests beside it, ms."""

    cpu_ms: float
    longest_wait_ms: float


def _without_the_check(config: bytes) -> bytes:
    """Copy Envoy's configuration without the line that switches the check on."""
    parsed = Bootstrap.parse(config)
    assert parsed.static_resources is not None
    (listener,) = parsed.static_resources.listeners
    (network_filter,) = listener.filter_chains[0].filters
    assert network_filter.typed_config is not None
    manager = cast(HttpConnectionManager, network_filter.typed_config.unpack())
    assert manager.route_config is not None
    for route in manager.route_config.virtual_hosts[0].routes:
        route.typed_per_filter_config.pop(names.JSON_CHECK, None)
    network_filter.typed_config = AnyMessage.pack(manager)
    return bytes(parsed)


def _envoy(name: str, folder: Path, topology: MeshTopology, check: bool) -> ServerProcess:
    config = bootstrap(build_snapshot(topology))
    path = folder / f"{name}.pb"
    path.write_bytes(config if check else _without_the_check(config))
    command = [envoy_binary(), "--config-path", path, "--concurrency", "1", "--disable-hot-restart"]

    def ready() -> bool:
        try:
            url = f"http://{topology.host}:{topology.port}{PREDICT}"
            return httpx.post(url, json={"texts": ["a"]}).is_success
        except httpx.HTTPError:
            return False

    return ServerProcess(name, [*command, "--log-level", "error"], ready, folder / f"{name}.log")


def _load(envoy: ServerProcess, port: int, seconds: float) -> Figures:
    spec = LoadSpec(
        f"127.0.0.1:{port}", "reviews", ClosedLoop(CLIENTS), (TEXT,), "json", duration_s=seconds,
        warm_up_s=0.5,
    )  # fmt: skip
    return measure_load(spec, [envoy])[0]


async def _large(envoy: ServerProcess, port: int, path: str, body: bytes) -> Large:
    waits: list[float] = []
    done = asyncio.Event()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:

        async def small() -> None:
            while not done.is_set():
                begin = time.perf_counter()
                (await http.get("/healthz")).raise_for_status()
                waits.append((time.perf_counter() - begin) * 1e3)

        beside = asyncio.create_task(small())
        await http.get("/healthz")
        before, count = envoy.cpu_s(), len(waits)
        await http.post(path, content=body)
        cpu_ms = (envoy.cpu_s() - before) * 1e3
        done.set()
        await beside
    # The small requests cost Envoy far less than its clock shows, 10 ms.
    return Large(cpu_ms, max(waits[count:]))


async def _measure(rounds: int, seconds: float) -> dict[str, Any]:
    data: dict[str, Any] = {"small": {}, "large": {kind: {} for kind in LARGE}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with (
            toy_server(REPLICA, predict=ToyPredict("r1")) as replica,
            toy_server(("mesh.v1.DataService",), data=ToyData()) as rows,
        ):
            at = Address.parse(replica.address)
            ports = {"with": free_port(), "without": free_port()}
            envoys = {}
            for name, port in ports.items():
                topology = MeshTopology(
                    (at,), training=at, trigger=Address.parse(rows.address), control_plane=at,
                    port=port, admin_port=free_port(), replicas_unary=(unary_address(replica),),
                )  # fmt: skip
                envoy = _envoy(name, Path(folder), topology, name == "with")
                envoys[name] = await asyncio.to_thread(stack.enter_context, envoy)
            for number in track(range(rounds), "one with the check, one without", console=console):
                order = sorted(ports, reverse=bool(number % 2))
                for name in order:
                    figures = await asyncio.to_thread(_load, envoys[name], ports[name], seconds)
                    data["small"].setdefault(name, []).append(figures.cpu_ms[name])
                for kind, (path, body) in LARGE.items():
                    for name in order:
                        taken = await _large(envoys[name], ports[name], path, body.encode())
                        data["large"][kind].setdefault(name, []).append(asdict(taken))
    return data


def _row(what: str, unit: str, with_it: Sequence[float], without: Sequence[float]) -> Sequence[str]:
    more = median(one - other for one, other in zip(with_it, without, strict=True))
    return what, *(f"{value:.3f} {unit}" for value in (median(with_it), median(without), more))


def main(
    rounds: Annotated[int, typer.Option(help="Loads of each Envoy.")] = 7,
    seconds: Annotated[float, typer.Option(help="Seconds of each load.")] = 4,
    save: Annotated[bool, typer.Option(help="Keep the figures in bench/results.json.")] = True,
) -> None:
    """Start the parts, measure, print, keep."""
    data = asyncio.run(_measure(rounds, seconds))
    rows = [_row("one text, Envoy's CPU", "ms", data["small"]["with"], data["small"]["without"])]
    for kind, found in data["large"].items():
        for field, what in (
            ("cpu_ms", "Envoy's CPU"),
            ("longest_wait_ms", "longest wait beside it"),
        ):
            sides = [[one[field] for one in found[name]] for name in ("with", "without")]
            rows.append(_row(f"8 MiB, {kind}, {what}", "ms", *sides))
    section = Section(
        "The strict check of JSON",
        f"python -m bench.doors.json_check --rounds {rounds} --seconds {seconds:g}",
        ("", "with the check", "without", "the check's"),
        tuple(map(tuple, rows)),
        data=data,
    )
    section.show(console)
    if save:
        record("json_check", section)


if __name__ == "__main__":
    typer.run(main)
