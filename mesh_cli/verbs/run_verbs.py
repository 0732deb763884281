"""Verbs that run a mesh: up, down, scale, roll, status, logs."""

import signal
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from mesh_cli.certificates.choice import CertificateFile, KeyFile, Tls, chosen_tls
from mesh_cli.deployments.deployment import Report, Scaled
from mesh_cli.errors import EXIT_FAILED, BadInput
from mesh_cli.local.scale import MAX_REPLICAS
from mesh_cli.terminal import output
from mesh_cli.terminal.interrupts import uninterrupted
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context, status_document


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(up)
    app.command()(down)
    app.command()(scale)
    app.command()(roll)
    app.command()(status)
    app.command()(logs)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is healthy.")
    ] = False,
    tls: Tls = None,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Start every part of the mesh and wait until all are healthy.

    Local processes run until Ctrl-C, or with --detach until `mesh down`; containers always run
    until `mesh down`. What --tls, --certificate and --key say also holds for later starts.

    Example: `mesh up --detach`
    """
    mesh = context.deployment()
    mesh.start(chosen_tls(tls, certificate, key))
    if json:
        output.print_json(status_document.document(mesh))
    else:
        status_document.print_doors(status_document.doors(mesh))
    if not detach and mesh.ends_with_terminal:
        console.print("Ctrl-C stops it.")
        _wait_for_signal()
        with uninterrupted():
            mesh.stop()


def down(json: Json = False) -> None:
    """Stop every part; the state stays, in MESH_HOME or in Docker's volumes.

    `mesh up` continues with that state.

    Example: `mesh down`
    """
    mesh = context.deployment()
    was_up = mesh.is_up()
    mesh.stop()
    if json:
        output.print_json({"stopped": was_up})
    else:
        console.print("stopped; its state stays" if was_up else "no mesh was up")


def scale(
    count: Annotated[
        int, typer.Argument(metavar="N", help=f"Inference replicas, 1 to {MAX_REPLICAS}.")
    ],
    json: Json = False,
) -> None:
    """Change the number of inference replicas while requests go on; no request fails.

    A new replica gets requests once it serves the fleet's models. A replica that leaves first
    answers the requests it has. The next `mesh up` keeps the number. Example: `mesh scale 4`
    """
    if not 1 <= count <= MAX_REPLICAS:
        raise BadInput(f"N, the number of replicas, is 1 to {MAX_REPLICAS}, not {count}")
    _show_replicas(lambda report: context.deployment().scale(count, report), json)


def roll(
    build: Annotated[bool, typer.Option("--build", help="Build the image first.")] = False,
    json: Json = False,
) -> None:
    """Replace every inference container by one of the current image while requests go on.

    All new containers get requests before the first old one stops; no request fails.
    Example: `mesh --context compose roll --build`
    """
    mesh = context.deployment()
    if build:
        mesh.build()
    _show_replicas(mesh.roll, json)


def _show_replicas(change: Callable[[Report], Scaled], json: bool) -> None:
    with output.progress() as progress:
        task = progress.add_task("scaling", total=None, note="")

        def report(step: str, total: int) -> None:
            progress.update(task, total=total)
            output.advance(progress, task, step)

        scaled = change(report)
    if json:
        output.print_json(asdict(scaled))
    else:
        console.print(_summary(scaled))


def _summary(scaled: Scaled) -> str:
    count = "1 replica" if len(scaled.replicas) == 1 else f"{len(scaled.replicas)} replicas"
    done = [f"added {name}" for name in scaled.added]
    done += [f"removed {name}" for name in scaled.removed]
    return f"{count}: {', '.join(done) or 'nothing to do'}"


def status(
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Show the passwords, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Show every part and whether it is healthy, the models, failed batches, and the URLs.

    The tables hide passwords; --json, for scripts, holds them. Exits with 0 only when everything
    is healthy. Example: `mesh status --json`
    """
    document = status_document.document(context.deployment())
    if json:
        output.print_json(document)
    else:
        status_document.print_document(document, secrets=show_secrets)
    if not document["healthy"]:
        raise typer.Exit(EXIT_FAILED)


def logs(
    part: Annotated[str, typer.Argument(help="Name of the part, as `mesh status` shows it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines to print from the end.")] = 50,
) -> None:
    """Show the end of a part's log.

    Example: `mesh logs training --follow`
    """
    raise typer.Exit(context.deployment().show_log(part, follow, lines))


def _wait_for_signal() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping")
