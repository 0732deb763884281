"""What `mesh status` tells about a mesh, for scripts and for people."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh.v1 import data_pb2, reload_pb2
from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import NotUp
from mesh_cli.local.local_secrets import AIRFLOW_USER
from mesh_cli.terminal import output
from mesh_cli.terminal.output import console


def document(mesh: Deployment) -> dict[str, Any]:
    """Everything that is known, as plain data. Raises NotUp when it was never started."""
    statuses = mesh.statuses()
    models: list[dict[str, str]] = []
    batches: list[dict[str, Any]] = []
    # The parts' own states, which are told as well, say what is away.
    with suppress(NotUp), MeshClient(mesh.address) as client:
        with suppress(MeshError):
            models = _models(client)
        with suppress(MeshError):
            batches = _unresolved_batches(client)
    return {
        "healthy": all(status.healthy for status in statuses),
        "parts": [asdict(status) for status in statuses],
        "models": models,
        "batches": batches,
        "ports": mesh.ports(),
        "home": mesh.home,
        **doors(mesh),
    }


def doors(mesh: Deployment) -> dict[str, Any]:
    """Where everything is, and the way into Airflow."""
    return {
        "urls": mesh.urls(),
        "airflow": {"user": AIRFLOW_USER, "password": mesh.airflow_password()},
        "database": mesh.database(),
    }


def print_document(found: Mapping[str, Any]) -> None:
    """Print it as tables."""
    # Containers have none that would mean anything here.
    pids = any(part["pid"] for part in found["parts"])
    output.print_table(
        "",
        ("part", "healthy", *(["pid"] if pids else []), "detail"),
        (
            (part["name"], output.mark(part["healthy"]), *([part["pid"] or ""] if pids else []),
             part["detail"])
            for part in found["parts"]
        ),
    )  # fmt: skip
    if found["models"]:
        output.print_table(
            "",
            ("model", "version", "alias"),
            ((m["name"], m["version"] or "–", m["alias"] or "–") for m in found["models"]),
        )
    if found["batches"]:
        output.print_table(
            "these wait for `mesh retry BATCH`",
            ("batch", "state", "rows", "error"),
            ((b["id"], b["state"], b["rows"], b["error"]) for b in found["batches"]),
        )
    print_doors(found)


def print_doors(found: Mapping[str, Any]) -> None:
    """Print what `doors` found."""
    urls, airflow = found["urls"], found["airflow"]
    notes = {
        "mesh": "  (gRPC, JSON, gRPC-Web)",
        "airflow": f"  (user {airflow['user']}, password {airflow['password']})",
    }
    lines = [
        f"{title:<10}{urls.get(key, 'not open')}{notes.get(key, '')}"
        for title, key in (("mesh", "mesh"), ("MLflow", "mlflow"), ("Airflow", "airflow"))
    ]
    for line in (*lines, f"{'database':<10}{found['database']}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _models(client: MeshClient) -> list[dict[str, str]]:
    return [
        {"name": model.name, "version": model.serving_version, "alias": _alias(model)}
        for model in client.get_fleet().models
    ]


def _unresolved_batches(client: MeshClient) -> list[dict[str, Any]]:
    """Batches that Airflow refused, or whose run failed and that none has followed."""
    return [
        {
            "id": batch.id,
            "model": batch.model,
            "state": "dead" if batch.state == data_pb2.BATCH_STATE_DEAD else "failed",
            "rows": batch.rows,
            "error": batch.error,
        }
        for batch in client.list_batches(unresolved=True)
    ]


def _alias(model: reload_pb2.FleetModel) -> str:
    if not model.serving_version:
        return ""
    return "Champion" if model.serving_version == model.champion_version else "Serving"
