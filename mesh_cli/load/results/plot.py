"""Draws a result: latency by percentile, and latency over time with the events."""

from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_cli.errors import CliError
from mesh_cli.load.results.percentiles import percentile
from mesh_cli.load.results.result import LoadResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points of the curve, 20 for each "nine": 0 is 0 %, 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
_NINES = [number / 20 for number in range(81)]
_TICKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)


def draw(result: LoadResult, path: Path, title: str) -> None:
    """Write a PNG. Raises CliError when matplotlib is missing or the file cannot be written."""
    try:
        # Imported here, as it takes most of a second and only --plot needs it.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise CliError("plots need matplotlib: .venv/bin/pip install matplotlib") from None
    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    by_percentile, timeline = figure.subplots(2, 1)
    figure.suptitle(title)
    _draw_percentiles(by_percentile, result)
    _draw_timeline(timeline, result)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None


def _draw_percentiles(axes: "Axes", result: LoadResult) -> None:
    ordered = sorted(result.latencies())
    # 10**n requests have one beyond the n-th nine; the curve ends where there is none.
    nines = [n for n in _NINES if 10**n <= max(len(ordered), 1)]
    curve = [percentile(ordered, 100 * (1 - 10**-n)) for n in nines]
    points = [(n, value * 1000) for n, value in zip(nines, curve, strict=True) if value is not None]
    axes.plot([n for n, _ in points], [value for _, value in points], color="tab:blue")
    ticks = [tick for tick in _TICKS if 1 / (1 - tick / 100) <= max(len(ordered), 10)]
    axes.set_xticks([_nines(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("percentile of requests (%)")
    axes.set_ylabel("latency (ms)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _draw_timeline(axes: "Axes", result: LoadResult) -> None:
    seconds = result.timeline()
    at = [second["second"] + 0.5 for second in seconds]
    for name, colour in (("p99", "tab:red"), ("p50", "tab:blue")):
        values = [second[f"{name}Ms"] for second in seconds]
        axes.plot(
            at, [float("nan") if value is None else value for value in values],
            marker=".", color=colour, label=f"{name} of each second",
        )  # fmt: skip
    for number, event in enumerate(result.events):
        axes.axvspan(
            event.begin - result.begin, event.end - result.begin, color="tab:orange", alpha=0.4,
            label=event.name if number == 0 else None,
        )  # fmt: skip
    failed = [(x, second["errors"]) for x, second in zip(at, seconds, strict=True)]
    for number, (x, count) in enumerate((x, count) for x, count in failed if count):
        axes.axvline(x, color="black", linestyle=":", label="errors" if number == 0 else None)
        axes.annotate(str(count), (x, 0), xycoords=("data", "axes fraction"))
    axes.set_xlabel("time since the measurement began (s)")
    axes.set_ylabel("latency (ms)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, result.duration_s)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")


def _nines(percent: float) -> float:
    return -log10(1 - percent / 100)
