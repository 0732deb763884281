"""Verbs that run the local mesh: up, down, scale, status, logs."""

import signal
import subprocess
from dataclasses import asdict
from types import FrameType
from typing import Annotated, Any

import typer
from rich.progress import Progress

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh.v1 import data_pb2, reload_pb2
from mesh_cli import output
from mesh_cli.context import local_mesh
from mesh_cli.errors import EXIT_FAILED, BadInput, NotUp
from mesh_cli.mesh import LocalMesh, PartStatus
from mesh_cli.output import Json, console
from mesh_cli.scale import MAX_REPLICAS, Scaled, Scaling
from mesh_cli.secrets import AIRFLOW_USER


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(up)
    app.command()(down)
    app.command()(scale)
    app.command()(status)
    app.command()(logs)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is healthy.")
    ] = False,
    json: Json = False,
) -> None:
    """Start every part of the mesh on this machine.

    Example: `mesh up --detach`
    """
    mesh = local_mesh()
    start(mesh)
    if json:
        output.print_json(_document(mesh, mesh.statuses()))
    else:
        print_urls(mesh)
    if not detach:
        console.print("Ctrl-C stops it.")
        _wait_for_signal()
        mesh.down()


def start(mesh: LocalMesh) -> None:
    """Bring the mesh up with a progress display."""
    with output.progress() as progress:
        task = progress.add_task("starting", total=mesh.steps, note="")
        mesh.up(lambda step: _advance(progress, task, step))


def _advance(progress: Progress, task: Any, step: str) -> None:
    progress.console.print(f"[green]✓[/] {step}", highlight=False)
    progress.update(task, advance=1, note=step)


def down(json: Json = False) -> None:
    """Stop every part. State stays; `mesh up` goes on from it.

    Example: `mesh down`
    """
    mesh = local_mesh()
    was_up = mesh.is_up()
    with console.status("stopping"):
        mesh.down()
    if json:
        output.print_json({"stopped": was_up})
    else:
        console.print("stopped" if was_up else "no mesh was up")


def scale(
    count: Annotated[
        int, typer.Argument(metavar="N", help=f"Inference replicas, 1 to {MAX_REPLICAS}.")
    ],
    json: Json = False,
) -> None:
    """Change the number of inference replicas while requests go on; none of them fails.

    A new replica gets requests once it serves what the fleet serves; one that goes answers what
    it has first. `mesh up` keeps the number. Example: `mesh scale 4`
    """
    if not 1 <= count <= MAX_REPLICAS:
        raise BadInput(f"N, the number of replicas, is 1 to {MAX_REPLICAS}, not {count}")
    mesh = local_mesh()
    if not mesh.is_up():
        raise NotUp(f"no mesh is up in {mesh.home.root}: run `mesh up`")
    with output.progress() as progress, MeshClient(mesh.address) as client:
        task = progress.add_task("scaling", total=None, note="")

        def report(step: str, total: int) -> None:
            progress.update(task, total=total)
            _advance(progress, task, step)

        scaled = Scaling(mesh, client.get_fleet, report).to(count)
    if json:
        output.print_json(asdict(scaled))
    else:
        console.print(_scaled(scaled), highlight=False)


def _scaled(scaled: Scaled) -> str:
    count = "1 replica" if len(scaled.replicas) == 1 else f"{len(scaled.replicas)} replicas"
    done = [f"added {name}" for name in scaled.added]
    done += [f"removed {name}" for name in scaled.removed]
    return f"{count}: {', '.join(done) or 'nothing to do'}"


def status(json: Json = False) -> None:
    """Show every part, what is not healthy and why, the models, stuck batches, and the URLs.

    Exits with 0 only when everything is healthy. Example: `mesh status --json`
    """
    mesh = local_mesh()
    statuses = mesh.statuses()
    document = _document(mesh, statuses)
    if json:
        output.print_json(document)
    else:
        output.print_table(
            "",
            ("part", "healthy", "pid", "detail"),
            ((s.name, output.mark(s.healthy), s.pid or "", s.detail) for s in statuses),
        )
        if document["models"]:
            output.print_table(
                "",
                ("model", "version", "alias"),
                ((m["name"], m["version"] or "–", m["alias"] or "–") for m in document["models"]),
            )
        if document["batches"]:
            output.print_table(
                "these wait for `mesh retry BATCH`",
                ("batch", "state", "rows", "error"),
                ((b["id"], b["state"], b["rows"], b["error"]) for b in document["batches"]),
            )
        print_urls(mesh)
    if not document["healthy"]:
        raise typer.Exit(EXIT_FAILED)


def logs(
    part: Annotated[str, typer.Argument(help="Name of the part, as `mesh status` shows it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines from the end.")] = 50,
) -> None:
    """Show the end of a part's log.

    Example: `mesh logs training --follow`
    """
    mesh = local_mesh()
    path = mesh.home.logs / f"{part}.log"
    if not path.exists():
        known = sorted(found.stem for found in mesh.home.logs.glob("*.log"))
        raise BadInput(f"no log of {part!r}; there are {', '.join(known)}")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _document(mesh: LocalMesh, statuses: list[PartStatus]) -> dict[str, Any]:
    return {
        "healthy": all(status.healthy for status in statuses),
        "parts": [asdict(status) for status in statuses],
        "urls": urls(mesh),
        "models": _models(mesh),
        "batches": _unresolved_batches(mesh),
        "airflow": {"user": AIRFLOW_USER, "password": mesh.secrets.airflow_password()},
        "ports": mesh.record["ports"],
        "home": str(mesh.home.root),
    }


def urls(mesh: LocalMesh) -> dict[str, str]:
    """URLs of the doors; the database's with its password."""
    settings = mesh.settings
    return {
        "mesh": f"http://127.0.0.1:{settings.port}",
        "mlflow": f"http://127.0.0.1:{settings.mlflow_port}",
        "airflow": f"http://127.0.0.1:{settings.airflow_port}",
        "postgres": mesh.database_url,
        "envoy_admin": f"http://127.0.0.1:{settings.envoy_admin_port}",
    }


def _models(mesh: LocalMesh) -> list[dict[str, str]]:
    if not mesh.is_up():
        return []
    with MeshClient(mesh.address) as client:
        try:
            fleet = client.get_fleet()
        except MeshError:
            # The parts' own states, which are shown as well, say what is away.
            return []
    return [
        {"name": model.name, "version": model.serving_version, "alias": _alias(model)}
        for model in fleet.models
    ]


def _unresolved_batches(mesh: LocalMesh) -> list[dict[str, Any]]:
    """Batches that Airflow refused, or whose run failed and that none has followed."""
    if not mesh.is_up():
        return []
    with MeshClient(mesh.address) as client:
        try:
            batches = client.list_batches(unresolved=True)
        except MeshError:
            return []
    return [
        {
            "id": batch.id,
            "model": batch.model,
            "state": "dead" if batch.state == data_pb2.BATCH_STATE_DEAD else "failed",
            "rows": batch.rows,
            "error": batch.error,
        }
        for batch in batches
    ]


def _alias(model: reload_pb2.FleetModel) -> str:
    if not model.serving_version:
        return ""
    return "Champion" if model.serving_version == model.champion_version else "Serving"


def print_urls(mesh: LocalMesh) -> None:
    """Print where everything is, and the way into Airflow."""
    found = urls(mesh)
    console.print(f"mesh      {found['mesh']}  (gRPC, JSON, gRPC-Web)", highlight=False)
    console.print(f"MLflow    {found['mlflow']}", highlight=False)
    password = mesh.secrets.airflow_password()
    console.print(
        f"Airflow   {found['airflow']}  (user {AIRFLOW_USER}, password {password})",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(f"database  {found['postgres']}", highlight=False, soft_wrap=True, markup=False)


def _wait_for_signal() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping")
