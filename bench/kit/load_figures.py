"""Figures of a load: throughput, latency, CPU and memory; and medians of several loads."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

from bench.kit.server_process import ServerProcess
from mesh_cli.load import LoadResult, LoadSpec, run_load

# Without guest time, which user time contains.
_BUSY = frozenset({"user", "nice", "system", "irq", "softirq", "steal"})


@dataclass(frozen=True)
class Figures:
    """Figures of one load, or medians of several. CPU is in milliseconds a request."""

    texts_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int
    generator_ms: float
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    """By server; replicas together as `engine` (threads that compute) and `replicas beside it`."""
    resident_mib: Mapping[str, float] = field(default_factory=dict)
    """By server, after the load, MiB."""
    ready_s: Mapping[str, float] = field(default_factory=dict)
    """By server, seconds from its start until it is ready."""
    generator_late: bool = False
    others_cores: float = 0.0
    """Cores that other processes took during the load, steal included."""

    @property
    def outside_ms(self) -> float:
        """CPU of the servers outside the engine; it has no meaning without `engine` in `cpu_ms`."""
        return sum(ms for part, ms in self.cpu_ms.items() if part != "engine")


def measure_load(
    spec: LoadSpec, servers: Sequence[ServerProcess], replicas: Sequence[ServerProcess] = ()
) -> tuple[Figures, LoadResult]:
    """Run a load. `replicas` are those servers that have one thread for the engine, the busiest."""
    others = [server for server in servers if server not in replicas]
    before = {server.name: server.cpu_s() for server in servers}
    threads = {replica.name: replica.thread_cpu_s() for replica in replicas}
    with OtherProcesses() as bystanders:
        result = run_load(spec)
    requests = len(result.due) or 1
    cpu = {server.name: server.cpu_s() - before[server.name] for server in servers}
    cpu_ms = {server.name: cpu[server.name] * 1e3 / requests for server in others}
    if replicas:
        engine = sum(busiest(threads[replica.name], replica.thread_cpu_s()) for replica in replicas)
        whole = sum(cpu[replica.name] for replica in replicas)
        cpu_ms["engine"] = engine * 1e3 / requests
        cpu_ms["replicas beside it"] = (whole - engine) * 1e3 / requests
    summary = result.summary()
    figures = Figures(
        texts_per_s=summary["textsPerSecond"],
        p50_ms=summary["latencyMs"]["p50"] or 0.0,
        p99_ms=summary["latencyMs"]["p99"] or 0.0,
        requests=summary["requests"],
        failed=summary["failed"],
        generator_ms=summary["generator"]["cpuMsPerRequest"] or 0.0,
        cpu_ms=cpu_ms,
        resident_mib={server.name: server.resident_mib() for server in servers},
        ready_s={server.name: server.seconds_to_ready for server in servers},
        generator_late=summary["generator"]["lagging"],
        others_cores=bystanders.cores(sum(cpu.values()) + result.generator.cpu_s),
    )
    return figures, result


class OtherProcesses:
    """Cores that other processes take during a measurement. Use it in a `with`."""

    def __enter__(self) -> "OtherProcesses":
        self._begin, self._busy = time.monotonic(), _busy_s()
        return self

    def __exit__(self, *error: object) -> None:
        self._seconds = time.monotonic() - self._begin
        self._busy = _busy_s() - self._busy

    def cores(self, own_cpu_s: float) -> float:
        """Cores that others kept busy, given the CPU seconds of the measured processes."""
        return max(0.0, self._busy - own_cpu_s) / self._seconds


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(value for name, value in times._asdict().items() if name in _BUSY))


def busiest(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds of the thread that took most; in a replica it is the engine's thread."""
    return max((seconds - before.get(thread, 0.0) for thread, seconds in after.items()), default=0)


def medians(loads: Sequence[Figures]) -> Figures:
    """The median of each figure; requests and failures are added up."""
    return Figures(
        texts_per_s=median(one.texts_per_s for one in loads),
        p50_ms=median(one.p50_ms for one in loads),
        p99_ms=median(one.p99_ms for one in loads),
        requests=sum(one.requests for one in loads),
        failed=sum(one.failed for one in loads),
        generator_ms=median(one.generator_ms for one in loads),
        cpu_ms=_medians([one.cpu_ms for one in loads]),
        resident_mib=_medians([one.resident_mib for one in loads]),
        ready_s=_medians([one.ready_s for one in loads]),
        generator_late=any(one.generator_late for one in loads),
        others_cores=median(one.others_cores for one in loads),
    )


def _medians(loads: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(one[name] for one in loads) for name in loads[0]}
