"""One load on one server, with what it cost; and the medians of several."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

from bench.kit.server_process import ServerProcess
from mesh_cli.load import LoadResult, LoadSpec, run_load

# Guest time is part of user time already.
_BUSY = frozenset({"user", "nice", "system", "irq", "softirq", "steal"})


@dataclass(frozen=True)
class Figures:
    """Of one load, or medians of several. CPU is in milliseconds a request."""

    texts_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int
    generator_ms: float
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    """By part: servers, and `engine` for the threads of replicas that compute."""
    resident_mib: Mapping[str, float] = field(default_factory=dict)
    """By server, after the load."""
    ready_s: Mapping[str, float] = field(default_factory=dict)
    """By server, from its start to ready."""
    generator_late: bool = False
    others_cores: float = 0.0
    """Cores that processes of no part in this took meanwhile, steal included."""

    @property
    def outside_ms(self) -> float:
        """CPU of the servers that is not the engine's; meaningless without `engine`."""
        return sum(ms for part, ms in self.cpu_ms.items() if part != "engine")


def measure_load(
    spec: LoadSpec, servers: Sequence[ServerProcess], replicas: Sequence[ServerProcess] = ()
) -> tuple[Figures, LoadResult]:
    """Run a load; `replicas` are servers with one thread that computes, told apart by its CPU."""
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
    """What the machine was busy with beside a measurement. Use it in a `with`."""

    def __enter__(self) -> "OtherProcesses":
        self._begin, self._busy = time.monotonic(), _busy_s()
        return self

    def __exit__(self, *error: object) -> None:
        self._seconds = time.monotonic() - self._begin
        self._busy = _busy_s() - self._busy

    def cores(self, own_cpu_s: float) -> float:
        """Cores that others kept busy, given the CPU seconds of what was measured."""
        return max(0.0, self._busy - own_cpu_s) / self._seconds


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(value for name, value in times._asdict().items() if name in _BUSY))


def busiest(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds of the thread that took most: a replica's is the one that computes."""
    return max((seconds - before.get(thread, 0.0) for thread, seconds in after.items()), default=0)


def medians(found: Sequence[Figures]) -> Figures:
    """The median of each figure; requests and failures are summed up."""
    return Figures(
        texts_per_s=median(one.texts_per_s for one in found),
        p50_ms=median(one.p50_ms for one in found),
        p99_ms=median(one.p99_ms for one in found),
        requests=sum(one.requests for one in found),
        failed=sum(one.failed for one in found),
        generator_ms=median(one.generator_ms for one in found),
        cpu_ms=_medians([one.cpu_ms for one in found]),
        resident_mib=_medians([one.resident_mib for one in found]),
        ready_s=_medians([one.ready_s for one in found]),
        generator_late=any(one.generator_late for one in found),
        others_cores=median(one.others_cores for one in found),
    )


def _medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(one[name] for one in found) for name in found[0]}
