"""Percentiles and the timeline of latencies, exact."""

import math
from collections.abc import Sequence

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Smallest of the sorted values that `percent` of them do not exceed (nearest rank)."""
    if not ordered:
        return None
    # Rounded first: 99.9 / 100 * 1000 is a little above 999 in floating point.
    rank = math.ceil(round(percent / 100 * len(ordered), 6))
    return ordered[max(rank, 1) - 1]


def percentile_name(percent: float) -> str:
    """For example `p99.9`."""
    return f"p{percent:g}"


def latency_summary(latencies_s: Sequence[float]) -> dict[str, float | None]:
    """Mean, percentiles and maximum, in milliseconds, of latencies in seconds; None without any."""
    ordered = sorted(latencies_s)
    summary: dict[str, float | None] = {"mean": sum(ordered) / len(ordered) if ordered else None}
    for percent in PERCENTILES:
        summary[percentile_name(percent)] = percentile(ordered, percent)
    summary["max"] = ordered[-1] if ordered else None
    return {name: None if value is None else value * 1000 for name, value in summary.items()}
