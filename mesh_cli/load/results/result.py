"""What a load found: every request as a row, and the summary of them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mesh_cli.load.plan.spec import LoadSpec, OpenLoop
from mesh_cli.load.results.answers import Server, reader
from mesh_cli.load.results.percentiles import latency_summary, percentile
from mesh_cli.load.results.recorder import Recorder

# A generator later than this, for one in a hundred requests, is part of what it measures.
LAG_LIMIT_MS = 3.0
# An event is felt so long after its end, seconds: the old model is still being freed.
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
    """What the load generator itself cost, and how late it was."""

    cpu_s: float
    """CPU seconds of its process, warm-up included."""
    lag_mean_ms: float
    lag_p99_ms: float
    lag_max_ms: float

    @property
    def lagging(self) -> bool:
        """Whether the latencies are partly the generator's own."""
        return self.lag_p99_ms > LAG_LIMIT_MS


@dataclass(frozen=True)
class Request:
    """One request of a load."""

    due: float
    """When it should have been sent, seconds of time.monotonic(); it never left earlier."""
    latency_s: float
    """From `due` to the answer."""
    code: str
    """OK, or the name of the error."""
    server: Server | None
    """Who answered; None for an error, and for an answer that was not kept."""


@dataclass(frozen=True)
class LoadResult:
    """The columns hold one row a request, warm-up included, in the order of the answers."""

    load: dict[str, Any]
    """What was asked for: address, model, loop, texts a request…"""
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
    """Index into `servers`; -1: unknown."""
    servers: list[Server]
    messages: dict[str, str]
    """The first message of each error."""
    kept_every: int
    """One in so many answers was kept to see who gave it."""
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
            found = self.servers[server] if server >= 0 else None
            yield Request(due, latency, self.codes[code], found)

    def latencies(self) -> list[float]:
        """Latencies of good answers in the measured part, seconds."""
        return [self.latency[row] for row in self.measured() if self.code[row] == 0]

    def errors(self) -> dict[str, int]:
        """Failed requests of the measured part by the name of the error."""
        found = Counter(self.code[row] for row in self.measured())
        return {self.codes[code]: count for code, count in found.most_common() if code}

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
        """Kept answers of the measured part by who gave them, most first."""
        found = Counter(self.server[row] for row in self.measured())
        return [(self.servers[key], count) for key, count in found.most_common() if key >= 0]

    def timeline(self) -> list[dict[str, Any]]:
        """For each second of the measured part: requests due, errors, latencies of good ones."""
        seconds: list[list[int]] = [[] for _ in range(max(1, round(self.duration_s + 0.499)))]
        for row in self.measured():
            seconds[min(int(self.due[row] - self.begin), len(seconds) - 1)].append(row)
        return [self._second(number, rows) for number, rows in enumerate(seconds)]

    def around_events(self) -> tuple[list[float], list[float]]:
        """Good latencies, seconds, of requests in flight during an event, and of all others.

        An event lasts SETTLE_S longer here than it did.
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
        """Everything that people and scripts read; times in milliseconds unless named `…S`."""
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
            "served": [{**who._asdict(), "answers": count} for who, count in self.served()],
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
    """The same stretches of time, ascending, none touching another."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(windows):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def from_recorder(spec: LoadSpec, recorder: Recorder, begin: float, cpu_s: float) -> LoadResult:
    """The result of a run whose measured part began at `begin`."""
    servers: dict[Server, int] = {}
    server = array("i", [-1]) * len(recorder.due)
    read = reader(spec.protocol)
    for row, body in recorder.kept:
        who = read(body)
        if who is not None:
            server[row] = servers.setdefault(who, len(servers))
    return LoadResult(
        load=describe(spec),
        begin=begin,
        duration_s=spec.duration_s,
        due=recorder.due,
        latency=recorder.latency,
        code=recorder.code,
        codes=recorder.codes,
        server=server,
        servers=list(servers),
        messages=recorder.messages,
        kept_every=recorder.every,
        generator=_generator(recorder.lag, cpu_s),
    )


def describe(spec: LoadSpec) -> dict[str, Any]:
    """What was asked for, as JSON says it."""
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
    found = latency_summary(lag)
    return Generator(cpu_s, found["mean"] or 0.0, found["p99"] or 0.0, found["max"] or 0.0)
