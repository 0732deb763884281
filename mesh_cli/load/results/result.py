"""The result of a load: every request as a row, and their summary."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mesh_cli.load.plan.spec import LoadSpec, OpenLoop
from mesh_cli.load.results.answering_server import Server, server_reader
from mesh_cli.load.results.percentiles import latency_summary, percentile
from mesh_cli.load.results.recorder import Recorder

# A generator that is later than this for one request in a hundred distorts the latencies.
LAG_LIMIT_MS = 3.0
# Seconds after its end for which an event still counts: the replica is freeing the old model.
SETTLE_S = 1.0


@dataclass(frozen=True)
class Event:
    """Something that happened during a load, for example a Reload."""

    name: str
    begin: float
    """Seconds of time.monotonic()."""
    end: float
    failed: bool = False
    detail: str = ""


@dataclass(frozen=True)
class Generator:
    """The cost of the load generator itself, and how late it was."""

    cpu_s: float
    """CPU seconds of its process, warm-up included."""
    lag_mean_ms: float
    lag_p99_ms: float
    lag_max_ms: float

    @property
    def lagging(self) -> bool:
        """Whether the generator was so late that the latencies are partly its own."""
        return self.lag_p99_ms > LAG_LIMIT_MS


@dataclass(frozen=True)
class Request:
    """One request of a load."""

    due: float
    """When it should have been sent, seconds of time.monotonic(). It was not sent earlier."""
    latency_s: float
    """From `due` to the answer."""
    code: str
    """OK, or the name of the error."""
    server: Server | None
    """The server that answered; None for an error, and for an answer that was not kept."""


@dataclass(frozen=True)
class LoadResult:
    """The columns hold one row a request, warm-up included, in the order of the answers."""

    load: dict[str, Any]
    """The load that was asked for, as `describe` gives it."""
    begin: float
    """When the measured part began, seconds of time.monotonic()."""
    duration_s: float
    """Length of the measured part."""
    due: array[float]
    latency: array[float]
    """Seconds, from `due`."""
    code: array[int]
    """Index into `codes`."""
    codes: list[str]
    server: array[int]
    """Index into `servers`; -1: not known."""
    servers: list[Server]
    messages: dict[str, str]
    """The first message of each error."""
    kept_every: int
    """One answer in this many was kept to see which server gave it."""
    generator: Generator
    events: tuple[Event, ...] = field(default=())

    @property
    def end(self) -> float:
        """When the measured part ended, seconds of time.monotonic()."""
        return self.begin + self.duration_s

    def with_events(self, events: Sequence[Event]) -> LoadResult:
        """The same result with events on its timeline."""
        return replace(self, events=(*self.events, *events))

    def measured(self) -> Iterator[int]:
        """Rows of the requests that were due in the measured part."""
        begin, end = self.begin, self.end
        return (row for row, due in enumerate(self.due) if begin <= due < end)

    def requests(self) -> Iterator[Request]:
        """Every request, warm-up included."""
        for due, latency, code, server in zip(
            self.due, self.latency, self.code, self.server, strict=True
        ):
            answered_by = self.servers[server] if server >= 0 else None
            yield Request(due, latency, self.codes[code], answered_by)

    def latencies(self) -> list[float]:
        """Latencies of good answers in the measured part, seconds."""
        return [self.latency[row] for row in self.measured() if self.code[row] == 0]

    def errors(self) -> dict[str, int]:
        """Failed requests of the measured part by the name of the error."""
        counts = Counter(self.code[row] for row in self.measured())
        return {self.codes[code]: count for code, count in counts.most_common() if code}

    def sent(self) -> int:
        """Requests that were due in the measured part; each of them was sent."""
        return sum(1 for _ in self.measured())

    def throughput(self) -> float:
        """Good answers a second that arrived within the measured part."""
        arrived = sum(
            1
            for due, latency, code in zip(self.due, self.latency, self.code, strict=True)
            if code == 0 and self.begin <= due + latency < self.end
        )
        return arrived / self.duration_s

    def served(self) -> list[tuple[Server, int]]:
        """Each server with the kept answers that it gave in the measured part, most first."""
        counts = Counter(self.server[row] for row in self.measured())
        return [(self.servers[key], count) for key, count in counts.most_common() if key >= 0]

    def timeline(self) -> list[dict[str, Any]]:
        """Each second of the measured part: requests due in it, their errors and latencies."""
        seconds: list[list[int]] = [[] for _ in range(max(1, round(self.duration_s + 0.499)))]
        for row in self.measured():
            seconds[min(int(self.due[row] - self.begin), len(seconds) - 1)].append(row)
        return [self._second(number, rows) for number, rows in enumerate(seconds)]

    def around_events(self) -> tuple[list[float], list[float]]:
        """Latencies, seconds, of requests in flight during an event, and of all others.

        Failed requests are left out. An event counts as SETTLE_S longer than it was.
        """
        windows = merged((event.begin, event.end + SETTLE_S) for event in self.events)
        ends = [end for _, end in windows]
        inside: list[float] = []
        outside: list[float] = []
        for row in self.measured():
            if self.code[row] == 0:
                due, latency = self.due[row], self.latency[row]
                next_window = bisect_left(ends, due)
                touched = next_window < len(windows) and windows[next_window][0] <= due + latency
                (inside if touched else outside).append(latency)
        return inside, outside

    def summary(self) -> dict[str, Any]:
        """The result for people and scripts; times in milliseconds, those named `…S` in seconds."""
        sent, errors, throughput = self.sent(), self.errors(), self.throughput()
        cpu_ms = self.generator.cpu_s * 1000
        summary: dict[str, Any] = {
            "load": self.load,
            "durationS": self.duration_s,
            "requests": sent,
            "failed": sum(errors.values()),
            "errors": errors,
            "errorMessages": {code: self.messages[code] for code in errors},
            "throughput": throughput,
            "textsPerSecond": throughput * self.load["textsPerRequest"],
            "latencyMs": latency_summary(self.latencies()),
            "served": [{**server._asdict(), "answers": count} for server, count in self.served()],
            "servedSampledOneIn": self.kept_every,
            "generator": {
                "cpuS": self.generator.cpu_s,
                "cpuMsPerRequest": cpu_ms / len(self.due) if self.due else None,
                "lagMeanMs": self.generator.lag_mean_ms,
                "lagP99Ms": self.generator.lag_p99_ms,
                "lagMaxMs": self.generator.lag_max_ms,
                "lagging": self.generator.lagging,
            },
            "timeline": self.timeline(),
        }
        if self.events:
            inside, outside = self.around_events()
            summary["events"] = [
                {
                    "name": event.name,
                    "beginS": event.begin - self.begin,
                    "endS": event.end - self.begin,
                    "failed": event.failed,
                    "detail": event.detail,
                }
                for event in self.events
            ]
            summary["duringEvents"] = {
                "settleS": SETTLE_S,
                "insideMs": latency_summary(inside),
                "outsideMs": latency_summary(outside),
            }
        return summary

    def _second(self, number: int, rows: Sequence[int]) -> dict[str, Any]:
        good = sorted(self.latency[row] for row in rows if self.code[row] == 0)
        median, p99 = percentile(good, 50), percentile(good, 99)
        return {
            "second": number,
            "requests": len(rows),
            "errors": len(rows) - len(good),
            "p50Ms": None if median is None else median * 1000,
            "p99Ms": None if p99 is None else p99 * 1000,
        }


def merged(windows: Iterator[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same stretches of time in their order; those that touch or overlap become one."""
    apart: list[tuple[float, float]] = []
    for begin, end in sorted(windows):
        if apart and begin <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((begin, end))
    return apart


def from_recorder(spec: LoadSpec, recorder: Recorder, begin: float, cpu_s: float) -> LoadResult:
    """The result of a run whose measured part began at `begin`."""
    servers: dict[Server, int] = {}
    server_of_row = array("i", [-1]) * len(recorder.due)
    read_server = server_reader(spec.protocol)
    for row, body in recorder.kept:
        server = read_server(body)
        if server is not None:
            server_of_row[row] = servers.setdefault(server, len(servers))
    return LoadResult(
        load=describe(spec),
        begin=begin,
        duration_s=spec.duration_s,
        due=recorder.due,
        latency=recorder.latency,
        code=recorder.code,
        codes=recorder.codes,
        server=server_of_row,
        servers=list(servers),
        messages=recorder.messages,
        kept_every=recorder.every,
        generator=_generator(recorder.lag, cpu_s),
    )


def describe(spec: LoadSpec) -> dict[str, Any]:
    """The load that was asked for, as a JSON object."""
    loop: dict[str, Any]
    if isinstance(spec.loop, OpenLoop):
        loop = {"kind": "open", "rate": spec.loop.rate, "arrivals": spec.loop.arrivals}
    else:
        loop = {"kind": "closed", "clients": spec.loop.clients}
    return {
        "address": spec.address,
        "model": spec.model,
        "protocol": spec.protocol,
        "loop": loop,
        "textsPerRequest": spec.texts_per_request,
        "distinctTexts": len(spec.texts),
        "warmUpS": spec.warm_up_s,
    }


def _generator(lag: Sequence[float], cpu_s: float) -> Generator:
    lag_ms = latency_summary(lag)
    return Generator(cpu_s, lag_ms["mean"] or 0.0, lag_ms["p99"] or 0.0, lag_ms["max"] or 0.0)
