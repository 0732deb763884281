"""What each abuse costs honest callers, and Envoy: `python -m bench.abuse`

Two replicas with a real model behind Envoy, which checks tokens; the other services are toys. 64
clients measure the capacity. Eight honest clients, four over gRPC and four by JSON, then send
predictions at a fifth of it. Beside them runs in turn

- an abuser in a process of its own, for `--seconds`;
- an equal valid load: as many valid predictions of one text a second as the abuser sent requests,
  but at least one a second, and at most another fifth of the capacity, so that the load itself
  never fills the mesh; and where the abuser opens all at once and holds it, as many valid calls of
  the same kind at once (bench/abuse/valid_loads.py).

It prints for each abuse the honest requests that failed beside it (wanted: none), the honest p99
beside it over the p99 beside the equal valid load (wanted: at most 2), Envoy's memory before, at
most and 2 s after, and what the abuser got. It ends with exit code 1 when something is above that.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.abuse.catalog import ABUSES
from bench.abuse.target import Target
from bench.abuse.valid_loads import VALID_LOADS
from bench.kit.fleet import Fleet, running_fleet
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import ServerProcess, end_as_by_control_c
from bench.limit import MOST_TEXTS, Model, Save, Texts
from mesh_cli.load import ClosedLoop, LoadProcess, LoadResult, LoadSpec, OpenLoop, run_load
from mesh_cli.load.plan.spec import Protocol
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.load.results.percentiles import percentile
from mesh_cli.local.health import grpc_health
from tests.real_parts.postgres import free_port
from tests.real_parts.tokens import SigningKey, jwks

CLIENTS = 8
# Part of the capacity that the honest clients take, and the equal valid load at most.
SHARE = 0.2
LEAST_VALID = 1.0
CAPACITY_S = 8.0
WARM_UP_S = 2.0
AFTER_S = 2.0
SAMPLE_S = 0.05
MOST_RATIO = 2.0
SCOPES = ("predict", "view", "data", "train", "release")

console = Console()


@dataclass(frozen=True)
class Outcome:
    """One abuse. Times in milliseconds, memory of Envoy in MiB."""

    name: str
    requests: int
    got: dict[str, int]
    honest: int
    failed: dict[str, int]
    p99: float
    valid_load: str
    valid_failed: int
    valid_p99: float
    before: float
    peak: float
    after: float

    @property
    def ratio(self) -> float:
        """p99 beside the abuse over p99 beside the equal valid load."""
        return self.p99 / self.valid_p99 if self.valid_p99 else float("inf")

    @property
    def is_fine(self) -> bool:
        """Whether nobody but the abuser noticed."""
        return not self.failed and self.ratio <= MOST_RATIO

    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        failed = ", ".join(f"{count} x {code}" for code, count in self.failed.items())
        got = ", ".join(f"{count:,} x {what}" for what, count in list(self.got.items())[:3])
        return (
            self.name.replace("_", " "),
            f"{failed or 0} of {self.honest:,}",
            f"{self.p99:.1f}",
            f"{self.valid_p99:.1f} at {self.valid_load}",
            f"{self.ratio:.2f}",
            f"{self.before:.0f} / {self.peak:.0f} / {self.after:.0f}",
            f"{self.requests:,}: {got}",
        )


class PeakMemory:
    """The most memory of a server in a block, MiB. Use it in a `with`."""

    def __init__(self, server: ServerProcess) -> None:
        self._server, self._over = server, threading.Event()
        self.peak = server.resident_mib()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak = max(self.peak, self._server.resident_mib())


@contextmanager
def honest_clients(spec: LoadSpec) -> Iterator[list[LoadResult]]:
    """Run them; the block begins when they are measured. Their results come at its end."""
    results: list[LoadResult] = []
    with (
        LoadProcess(_variant(spec, "grpc", spec.duration_s)) as grpc,
        LoadProcess(_variant(spec, "json", spec.duration_s)) as web,
    ):
        begin = max(grpc.begin(), web.begin())
        time.sleep(max(0.0, begin - time.monotonic()))
        yield results
        results += [grpc.result(), web.result()]


def _variant(spec: LoadSpec, protocol: Protocol, seconds: float) -> LoadSpec:
    assert isinstance(spec.loop, OpenLoop)
    half = OpenLoop(spec.loop.rate / 2, "poisson", seed=len(protocol))
    return replace(
        spec,
        loop=half,
        protocol=protocol,
        channels=CLIENTS // 2,
        duration_s=seconds,
        warm_up_s=WARM_UP_S,
    )


def _failed(results: list[LoadResult]) -> dict[str, int]:
    failed: dict[str, int] = {}
    for result in results:
        for code, count in result.errors().items():
            failed[code] = failed.get(code, 0) + count
    return failed


def _p99_ms(results: list[LoadResult]) -> float:
    latencies = sorted(s for result in results for s in result.latencies())
    return (percentile(latencies, 99) or 0.0) * 1e3


def measure(name: str, fleet: Fleet, target: Target, spec: LoadSpec) -> Outcome:
    """Run one abuse beside honest clients, then the equal valid load beside them."""
    before = fleet.envoy.resident_mib()
    with PeakMemory(fleet.envoy) as memory, honest_clients(spec) as results:
        tally = _call(target, name, spec.duration_s)
    time.sleep(AFTER_S)
    after = fleet.envoy.resident_mib()
    with honest_clients(spec) as beside:
        valid_load = _equal_valid_load(name, target, spec, tally["requests"])
    return Outcome(
        name,
        tally["requests"],
        tally["got"],
        honest=sum(result.sent() for result in results),
        failed=_failed(results),
        p99=_p99_ms(results),
        valid_load=valid_load,
        valid_failed=sum(_failed(beside).values()),
        valid_p99=_p99_ms(beside),
        before=before,
        peak=memory.peak,
        after=after,
    )


def _call(target: Target, name: str, seconds: float, *valid: str) -> Any:
    """Run the abuser, or the equal valid load of its kind; return what it sent and got."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench.abuse.catalog", name, str(seconds), *valid],
        input=json.dumps(asdict(target)),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join((name, *valid))} failed: {ended.stderr[-1000:]}")
    return json.loads(ended.stdout)


def _equal_valid_load(name: str, target: Target, spec: LoadSpec, requests: int) -> str:
    """Run it for the time of `spec`; return it in a few words."""
    if name in VALID_LOADS:
        sent = _call(target, name, spec.duration_s, "valid")["requests"]
        return f"{sent:,} at once"
    assert isinstance(spec.loop, OpenLoop)
    rate = min(spec.loop.rate, max(LEAST_VALID, requests / spec.duration_s))
    valid = replace(spec, loop=OpenLoop(rate), protocol="json", channels=1, warm_up_s=0.0)
    with LoadProcess(valid) as load:
        load.result()
    return f"{rate:.0f}/s"


@contextmanager
def running_target(model: Path) -> Iterator[tuple[Fleet, Target]]:
    """The fleet, the toys beside it, and a token that opens everything."""
    folder, port = BUILD / "abuse", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    key = SigningKey("bench")
    keys = folder / "token-keys.json"
    keys.write_text(jwks(key))
    problem = grpc_health(f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "bench.abuse.other_parts", str(port)]
    others = ServerProcess("toys", command, lambda: not problem(), folder / "toys.log")
    with (
        others,
        running_fleet(folder, model, 2, f"127.0.0.1:{port}", keys) as fleet,
    ):
        token = key.token(*SCOPES, exp=int(time.time()) + 86_400)
        yield fleet, Target(fleet.address, fleet.replica_addresses[0], token)


def main(
    texts: Texts = None,
    model: Model = "",
    only: Annotated[list[str] | None, typer.Option(help="Names of abuses.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of each abuse.", min=1)] = 15.0,
    save: Save = True,
) -> None:
    """Measure and print."""
    names = [name for name in ABUSES if not only or name in only]
    if unknown := set(only or ()) - set(ABUSES):
        raise typer.BadParameter(f"no abuse {', '.join(unknown)}; there are {', '.join(ABUSES)}")
    end_as_by_control_c()
    outcomes = []
    with running_target(model_folder(model)) as (fleet, target):
        lines = tuple(read_texts(texts)[:MOST_TEXTS])
        spec = LoadSpec(
            fleet.address, MODEL, ClosedLoop(64), lines, "json", duration_s=CAPACITY_S
        )  # fmt: skip
        rate = run_load(spec).throughput() * SHARE
        spec = replace(spec, loop=OpenLoop(rate), duration_s=seconds)
        with honest_clients(spec) as alone:
            time.sleep(seconds)
        console.print(f"honest clients alone: {rate:.0f}/s, p99 {_p99_ms(alone):.1f} ms")
        if failed := _failed(alone):
            raise RuntimeError(f"honest requests fail without any abuse: {failed}")
        for name in names:
            outcomes.append(measure(name, fleet, target, spec))
            console.print("  ".join(outcomes[-1].row()), highlight=False, soft_wrap=True)
    section = Section(
        title="Abuses beside eight honest clients",
        command="python -m bench.abuse",
        columns=(
            "abuse", "honest failed", "p99 ms beside it", "beside equal valid load", "ratio",
            "Envoy MiB before / most / after", "the abuser sent, and got",
        ),
        rows=tuple(outcome.row() for outcome in outcomes),
        notes=(
            f"Honest: {CLIENTS} clients, {rate:.0f} predictions a second, a fifth of the capacity;"
            f" p99 alone: {_p99_ms(alone):.1f} ms. Equal valid load: as many predictions as the"
            f" abuser's requests, at most {rate:.0f} a second; where it opens all at once, as many"
            f" valid calls at once. Wanted: 0 failed, ratio at most {MOST_RATIO:g}.",
        ),
        data=[asdict(outcome) for outcome in outcomes],
    )  # fmt: skip
    section.show(console)
    if save:
        record("abuse", section)
    bad = [outcome.name for outcome in outcomes if not outcome.is_fine]
    if bad:
        console.print(f"honest callers noticed: {', '.join(bad)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
