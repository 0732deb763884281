"""The verb `mesh bench`: puts load on a mesh and measures latency and throughput."""

import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh_cli.errors import EXIT_FAILED, BadInput, CliError
from mesh_cli.load import (
    ClosedLoop,
    LoadProcess,
    LoadResult,
    LoadSpec,
    OpenLoop,
    Step,
    find_rate,
    read_texts,
    run_load,
)
from mesh_cli.load.plan.spec import Arrivals, Protocol
from mesh_cli.load.reloads import reload_moments, run_reloads, serving_version
from mesh_cli.load.results.plot import draw
from mesh_cli.load.results.report import print_result, step_line
from mesh_cli.local.home import project_folder
from mesh_cli.terminal import output
from mesh_cli.terminal.durations import seconds
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model
from service_kit.errors import InvalidArgument
from service_kit.limits import check_model_name

CLIENTS = 64
DURATION_S = 20.0
# Seconds for which --find-rate measures each rate.
STEP_S = 10.0
# --find-rate first measures the throughput of a closed loop for CAPACITY_S seconds, and begins its
# search at FIRST_SHARE of it.
FIRST_SHARE = 0.7
CAPACITY_S = 4.0


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(bench)


def bench(
    model: Model,
    rate: Annotated[
        float | None, typer.Option(help="Open loop: requests to send per second.")
    ] = None,
    arrivals: Annotated[Arrivals, typer.Option(help="Open loop: how they arrive.")] = "constant",
    clients: Annotated[
        int | None,
        typer.Option(help=f"Closed loop: clients that wait for their answers. Default: {CLIENTS}."),
    ] = None,
    duration: Annotated[
        str, typer.Option(help="Measured time. Default: 20s; 10s for each rate of --find-rate.")
    ] = "",
    warm_up: Annotated[str, typer.Option(help="Time before the measurement, not counted.")] = "3s",
    protocol: Annotated[Protocol, typer.Option(help="Protocol of the requests.")] = "grpc",
    texts: Annotated[
        Path | None,
        typer.Option(help="File with one text per line, or .csv. Default: sample reviews."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the .csv with the text.")] = "text",
    texts_per_request: Annotated[int, typer.Option(help="Texts per request.", min=1)] = 1,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send the texts shuffled.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle and of Poisson arrivals.")] = 0,
    find: Annotated[
        bool, typer.Option("--find-rate", help="Find the highest rate that holds --p99.")
    ] = False,
    p99: Annotated[str, typer.Option(help="The target of --find-rate.")] = "50ms",
    reload_at: Annotated[
        list[str] | None, typer.Option(help="Reload at this moment; may be repeated.")
    ] = None,
    reload_every: Annotated[str, typer.Option(help="Reload again and again.")] = "",
    reload_versions: Annotated[
        str,
        typer.Option(
            help="Reload these versions in turn, as 1,2; then go back. Default: Champion."
        ),
    ] = "",
    address: Annotated[
        str, typer.Option(help="host:port or https://host:port. Default: the mesh that is up.")
    ] = "",
    engines: Annotated[
        bool,
        typer.Option("--engines", help="No load: measure the engines here, without a server."),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG.")] = None,
    json: Json = False,
) -> None:
    """Put load on a model and print latency, throughput and who answered.

    In an open loop (`--rate`) latency counts from the moment at which a request was due, so a
    stall of the mesh shows in the latency of every request that it delayed.
    Example: `mesh bench reviews --rate 200 --duration 30s --reload-every 10s --plot bench.png`
    """
    if engines:
        _engines(model, texts, json)
    if rate is not None and clients is not None:
        raise BadInput("give --rate (open loop) or --clients (closed loop), one of them")
    if find and (clients is not None or plot or reload_at or reload_every):
        raise BadInput("--find-rate goes without --clients, --plot and --reload-…")
    if reload_versions and not (reload_at or reload_every):
        raise BadInput("--reload-versions needs --reload-at or --reload-every")
    try:
        check_model_name(model)
    except InvalidArgument as error:
        raise BadInput(str(error)) from None
    default_s = STEP_S if find else DURATION_S
    open_loop = (
        OpenLoop(1.0 if rate is None else rate, arrivals, seed)
        if rate is not None or find
        else None
    )
    server = (address or context.address()).removeprefix("http://").rstrip("/")
    spec = LoadSpec(
        address=server,
        ca=context.ca(server) or "",
        token=context.token(server),
        model=model,
        loop=open_loop or ClosedLoop(CLIENTS if clients is None else clients),
        texts=tuple(read_texts(texts, text_column, seed if shuffle else None)),
        protocol=protocol,
        texts_per_request=texts_per_request,
        duration_s=seconds(duration, "--duration") if duration else default_s,
        warm_up_s=seconds(warm_up, "--warm-up"),
    )
    if find:
        _find_rate(spec, rate, seconds(p99, "--p99") * 1000, json)
        return
    reloads = _Reloads(
        reload_moments(
            [seconds(moment, "--reload-at") for moment in reload_at or ()],
            seconds(reload_every, "--reload-every") if reload_every else None,
            spec.duration_s,
        ),
        [version.strip() for version in reload_versions.split(",") if version.strip()],
    )
    result = _measure(spec, reloads)
    if json:
        output.print_json(result.summary())
    else:
        print_result(result)
    if plot:
        draw(result, plot, f"{model}: {result.throughput():,.0f} answers/s over {protocol}")
    if not result.latencies():
        raise typer.Exit(EXIT_FAILED)


def _engines(model: str, texts: Path | None, json: bool) -> NoReturn:
    """Run the benchmark of the engines in a process of its own, and exit with its code."""
    folder = project_folder()
    if not (folder / "bench" / "engines.py").exists():
        raise CliError(f"--engines runs {folder}/bench/engines.py, which is not there")
    command = [sys.executable, "-m", "bench.engines", "--model", model, "--no-save"]
    if texts is not None:
        command += ["--texts", str(texts.absolute())]
    if json:
        command.append("--json")
    raise typer.Exit(subprocess.run(command, cwd=folder).returncode)


@dataclass(frozen=True)
class _Reloads:
    moments: list[float]
    versions: list[str]


def _measure(spec: LoadSpec, reloads: _Reloads) -> LoadResult:
    with output.errors.status("load is running"):
        if not reloads.moments:
            return run_load(spec)
        with context.client_of(spec.address) as client:
            before = serving_version(client, spec.model)
            try:
                return _measure_reloads(spec, reloads, client)
            finally:
                if reloads.versions:
                    _restore(client, spec.model, before)


def _restore(client: MeshClient, model: str, version: str) -> None:
    try:
        client.reload(model, version=version)
    except MeshError as error:
        # The measurement is complete and is printed all the same.
        output.errors.print(
            f"{model} could not be reloaded to version {version}: {error}",
            style="yellow",
        )


def _measure_reloads(spec: LoadSpec, reloads: _Reloads, client: MeshClient) -> LoadResult:
    with LoadProcess(spec) as load:
        begin = load.begin()
        events = run_reloads(client, spec.model, begin, reloads.moments, reloads.versions)
        return load.result().with_events(events)


def _find_rate(spec: LoadSpec, first: float | None, target_ms: float, json: bool) -> None:
    loop = spec.loop
    assert isinstance(loop, OpenLoop)
    if first is None:
        closed = replace(spec, loop=ClosedLoop(CLIENTS), duration_s=CAPACITY_S)
        with output.errors.status(f"capacity with {CLIENTS} clients"):
            first = FIRST_SHARE * run_load(closed).throughput()

    def measure(rate: float) -> Step:
        with output.errors.status(f"{rate:,.1f}/s"):
            result = run_load(replace(spec, loop=replace(loop, rate=rate)))
        step = step_of(rate, result)
        if not json:
            console.print(step_line(step, target_ms))
        return step

    best, steps = find_rate(measure, target_ms, first)
    if json:
        output.print_json(
            {
                "targetP99Ms": target_ms,
                "rate": best.rate if best else None,
                "steps": [_camel(step, target_ms) for step in steps],
            }
        )
    elif best:
        console.print(
            f"{best.rate:,.0f} requests/s hold a p99 of {target_ms:g} ms (to about 5 %)",
        )
    if best is None:
        if not json:
            console.print(f"no rate holds a p99 of {target_ms:g} ms")
        raise typer.Exit(EXIT_FAILED)


def step_of(rate: float, result: LoadResult) -> Step:
    """A measured rate as a step of the search."""
    summary = result.summary()
    lagging = summary["generator"]["lagging"]
    return Step(rate, summary["latencyMs"]["p99"], summary["failed"], lagging)


def _camel(step: Step, target_ms: float) -> dict[str, object]:
    fields = asdict(step)
    fields["p99Ms"] = fields.pop("p99_ms")
    return {**fields, "holds": step.holds(target_ms)}
