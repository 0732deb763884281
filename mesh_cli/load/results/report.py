"""Prints a result as tables."""

from collections.abc import Mapping
from typing import Any

from mesh_cli.load.plan.rate_search import Step
from mesh_cli.load.results.result import LAG_LIMIT_MS, LoadResult
from mesh_cli.terminal.output import console, print_table


def print_result(result: LoadResult) -> None:
    """Print a result as tables."""
    summary = result.summary()
    console.print(
        f"{_loop(summary['load'])}, {summary['durationS']:g} s measured: "
        f"{summary['requests']:,} requests, {summary['failed']:,} failed; "
        f"{summary['throughput']:,.1f} answers/s, {summary['textsPerSecond']:,.1f} texts/s",
    )
    latency = summary["latencyMs"]
    print_table(
        "latency of good answers (ms)", tuple(latency), [[_ms(v) for v in latency.values()]]
    )
    if summary["errors"]:
        print_table(
            "failed requests",
            ("error", "requests", "first message"),
            (
                (code, f"{count:,}", summary["errorMessages"][code])
                for code, count in summary["errors"].items()
            ),
        )
    _print_served(summary)
    _print_events(summary)
    _print_generator(summary["generator"])


def step_line(step: Step, target_ms: float) -> str:
    """One line about a step of the search for a rate."""
    verdict = "holds" if step.holds(target_ms) else "does not hold"
    late = ", load generator late" if step.lagging else ""
    return f"{step.rate:,.1f}/s: p99 {_ms(step.p99_ms)} ms, {step.failed} failed{late}: {verdict}"


def _loop(load: Mapping[str, Any]) -> str:
    loop, protocol = load["loop"], load["protocol"]
    texts = f", {load['textsPerRequest']} texts a request" if load["textsPerRequest"] > 1 else ""
    if loop["kind"] == "open":
        return f"open loop, {loop['rate']:g}/s {loop['arrivals']}, {protocol}{texts}"
    return f"closed loop, {loop['clients']} clients, {protocol}{texts}"


def _print_served(summary: Mapping[str, Any]) -> None:
    total = sum(row["answers"] for row in summary["served"])
    if not total:
        return
    every = summary["servedSampledOneIn"]
    print_table(
        "answered by" + (f" (one answer in {every} looked at)" if every > 1 else ""),
        ("version", "alias", "replica", "answers", "share"),
        (
            (row["version"], row["alias"], row["replica"], f"{row['answers']:,}",
             f"{row['answers'] / total:.1%}")
            for row in summary["served"]
        ),
    )  # fmt: skip


def _print_events(summary: Mapping[str, Any]) -> None:
    if "events" not in summary:
        return
    print_table(
        "events",
        ("event", "from s", "to s", ""),
        (
            (
                event["name"] + (" failed" if event["failed"] else ""),
                f"{event['beginS']:.2f}",
                f"{event['endS']:.2f}",
                event["detail"],
            )
            for event in summary["events"]
        ),
    )
    during = summary["duringEvents"]
    inside, outside = during["insideMs"]["p99"], during["outsideMs"]["p99"]
    ratio = f" ({inside / outside:.2f} ×)" if inside and outside else ""
    console.print(
        f"p99 of requests in flight during an event or {during['settleS']:g} s after it: "
        f"{_ms(inside)} ms; of all others: {_ms(outside)} ms{ratio}",
    )


def _print_generator(generator: Mapping[str, Any]) -> None:
    console.print(
        f"load generator: {_ms(generator['cpuMsPerRequest'])} ms of CPU a request; late by "
        f"{_ms(generator['lagMeanMs'])} ms on average, {_ms(generator['lagP99Ms'])} ms at the "
        f"99th percentile, {_ms(generator['lagMaxMs'])} ms at most",
    )
    if generator["lagging"]:
        console.print(
            f"the load generator was more than {LAG_LIMIT_MS:g} ms late at the 99th percentile: "
            "the latencies above are partly its own",
            style="yellow",
        )


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.3f}" if value < 1 else f"{value:,.2f}"
