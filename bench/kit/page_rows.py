"""The rows of docs/benchmarks.md: what is read from which section of results.json, and wanted."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, le
from statistics import median
from typing import Any

MOST_ROWS = 15
_OURS = "champion-mesh"
# The widest matrix or vector unit that a processor has, the best one first.
_UNITS = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 bf16"), ("avx2", "AVX2"))
_BOUNDS = {">=": ge, "<=": le}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    bench: str
    """Key of the section in results.json; its first word names the command, `python -m bench.…`."""

    measured: Callable[[Any], float]
    """Takes the section's data. Raises LookupError when its run left this figure out."""

    bound: str
    """`>=` or `<=`."""

    wanted: float
    form: str
    """How both figures are written, for example `{:.2f}`."""

    def line(self, section: Mapping[str, Any]) -> Sequence[str] | None:
        """The cells of this row; None when the section has no such figure or no clean commit."""
        commit = section["versions"].get("commit", "")
        if not commit or commit.endswith("-dirty"):
            return None
        try:
            figure = self.measured(section["data"])
        except LookupError:
            return None
        met = _BOUNDS[self.bound](figure, self.wanted)
        sign = "≥" if self.bound == ">=" else "≤"
        return (
            self.what,
            self.form.format(figure),
            f"{sign} {self.form.format(self.wanted)}",
            "yes" if met else "**no**",
            f"`bench.{self.bench.split()[0]}`",
            commit,
            processor(section["machine"]),
        )


def _median(figures: Iterable[Any]) -> float:
    return float(median(figures))


def processor(machine: str) -> str:
    """The processor in short, from the description that `bench.kit.results.machine` gives."""
    name = re.sub(r"^\d+ cores of | \(virtual\)|\(R\)|\(TM\)| Processor|,.*$", "", machine)
    name, _, features = name.partition(" [")
    units = [short for flag, short in _UNITS if flag in features.rstrip("]").split()]
    return f"{name}, {units[0]}" if units else name


def _rounds(data: Any, server: str, field: str) -> float:
    return _median(found[field] for found in data["served"][server])


def _limit(data: Any) -> float:
    return _median(found["texts_per_s"] for found in data["limit"])


def _of_the_limit(door: str) -> Callable[[Any], float]:
    return lambda data: _rounds(data, f"{_OURS} {door}", "texts_per_s") / _limit(data)


def _tail(data: Any) -> float:
    server = f"{_OURS} json"
    return _rounds(data, server, "p99_ms") / _rounds(data, server, "p50_ms")


def _beside_the_engine(data: Any) -> float:
    return _median(
        sum(ms for part, ms in found["cpu_ms"].items() if part != "engine")
        for found in data["served"][f"{_OURS} json"]
    )


def _times_the_best(number_format: str) -> Callable[[Any], float]:
    def times(data: Any) -> float:
        peers = [
            _rounds(data, server, "texts_per_s")
            for server in data["served"]
            if not server.startswith(_OURS) and server.endswith(number_format)
        ]
        if not peers:
            raise LookupError("no peer was measured")
        return _rounds(data, f"{_OURS} json", "texts_per_s") / max(peers)

    return times


def _ratio(measured: str, beside: str) -> Callable[[Any], float]:
    return lambda data: _median(data[measured]) / _median(data[beside])


def _growth(data: Any) -> float:
    growth = (
        100 * (after / before - 1)
        for name, (before, after) in data["resident"].items()
        if name != "envoy"
    )
    return float(max(growth))


def _above_the_engine_ms(data: Any) -> float:
    return _median(data["one p50"]) - 1.3 * _median(data["alone p50"])


def _padding(data: Any) -> float:
    return 100 * _median(data["pad waste"])


def _more_accurate(data: Any) -> float:
    return float(data["served"] - data["torch"])


def _each_further_model(data: Any) -> float:
    few, *_, many = sorted(map(int, data))
    rss = [data[str(models)]["idle"]["rss"] for models in (few, many)]
    return float((rss[1] - rss[0]) / (many - few))


def _overload_tail(data: Any) -> float:
    at_capacity = _median(found["capacity_p99"] for found in data)
    return _median(found["accepted_p99"] for found in data) / at_capacity


ROWS = (
    # What is measured, by which bench, how it is computed, and what is wanted of it.
    Row("JSON by the limit, 64 clients", "serve", _of_the_limit("json"), ">=", 0.70, "{:.2f}"),
    Row("gRPC by the limit, 64 clients", "serve", _of_the_limit("grpc"), ">=", 0.75, "{:.2f}"),
    Row("p99 by p50, JSON", "serve", _tail, "<=", 3.0, "{:.1f} x"),
    Row("CPU beside the engine, JSON", "serve", _beside_the_engine, "<=", 0.5, "{:.2f} ms"),
    Row("By the best peer in fp32", "serve all", _times_the_best("fp32"), ">=", 4.0, "{:.1f} x"),
    Row("By the best peer in bf16", "serve all", _times_the_best("bf16"), ">=", 2.0, "{:.1f} x"),
    Row("64 texts a call by the limit", "loads", _ratio("bulk", "limit"), ">=", 0.92, "{:.2f}"),
    Row("One client, p50 - 1.3 x engine", "loads", _above_the_engine_ms, "<=", 1.0, "{:.2f} ms"),
    Row(
        "70 % load, p99 by engine", "loads", _ratio("open p99", "alone p99"), "<=", 4.0, "{:.1f} x"
    ),
    Row("Mixed lengths by limit", "loads", _ratio("mixed", "mixed limit"), ">=", 0.80, "{:.2f}"),
    Row("Mixed lengths, padding", "loads", _padding, "<=", 10.0, "{:.1f} %"),
    Row("Accuracy less torch fp32's", "accuracy", _more_accurate, ">=", -0.3, "{:+.2f} points"),
    Row("RSS after 200,000 requests", "soak", _growth, "<=", 3.0, "{:+.1f} %"),
    Row("RSS of each further model", "memory", _each_further_model, "<=", 60.0, "{:.0f} MiB"),
    Row("3 x overload, p99 by capacity's", "overload", _overload_tail, "<=", 2.0, "{:.1f} x"),
)
