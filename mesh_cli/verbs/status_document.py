"""The document that `mesh status` prints about a mesh, as JSON or as tables."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from mesh.client import MeshClient
from mesh.errors import MeshError
from mesh.v1 import batch_pb2, reload_pb2
from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import NotUp
from mesh_cli.local.local_secrets import AIRFLOW_USER
from mesh_cli.terminal import output
from mesh_cli.terminal.output import console
from mesh_cli.verbs import context

_PASSWORD_IN_URL = re.compile(r"(://[^/@:\s]*:)[^/@\s]+(@)")


def document(mesh: Deployment) -> dict[str, Any]:
    """The state of a mesh as plain data. Raises NotUp when the mesh was never started."""
    statuses = mesh.statuses()
    models: list[dict[str, Any]] = []
    batches: list[dict[str, Any]] = []
    troubles: list[dict[str, str]] = []
    # A part that is away leaves these lists empty; `parts` says which one it is.
    with suppress(NotUp), context.client_of(mesh.address) as client:
        with suppress(MeshError):
            models = _models(client)
        with suppress(MeshError):
            page = client.list_batches_page(unresolved=True)
            batches = [_unresolved(batch) for batch in page.batches]
            troubles = [_trouble(trouble) for trouble in page.troubles]
    return {
        "healthy": all(status.healthy for status in statuses),
        "parts": [asdict(status) for status in statuses],
        "models": models,
        "batches": batches,
        "troubles": troubles,
        "ports": mesh.ports(),
        "home": mesh.home,
        **doors(mesh),
    }


def doors(mesh: Deployment) -> dict[str, Any]:
    """URLs, what clients trust, Airflow's user and password, and how to reach the database.

    `ca` is the file of the authority of the mesh's certificate, empty without TLS.
    """
    return {
        "urls": mesh.urls(),
        "ca": _ca(mesh),
        "airflow": {"user": AIRFLOW_USER, "password": mesh.airflow_password()},
        "database": mesh.database(),
    }


def _ca(mesh: Deployment) -> str:
    with suppress(NotUp):
        return str(mesh.ca or "")
    return ""


def print_document(status: Mapping[str, Any], *, secrets: bool = False) -> None:
    """Print a document of `document` as tables, its passwords only with `secrets`."""
    # Parts in containers have no process id on this machine.
    pids = any(part["pid"] for part in status["parts"])
    output.print_table(
        "",
        ("part", "healthy", *(["pid"] if pids else []), "detail"),
        (
            (part["name"], output.mark(part["healthy"]), *([part["pid"] or ""] if pids else []),
             part["detail"])
            for part in status["parts"]
        ),
    )  # fmt: skip
    if status["models"]:
        output.print_table(
            "",
            ("model", "version", "alias"),
            ((m["name"], m["version"] or "–", m["alias"] or "–") for m in status["models"]),
        )
        output.print_details((m["name"], m["detail"]) for m in status["models"])
    if status["batches"]:
        output.print_table(
            "these wait for `mesh retry BATCH`",
            ("batch", "state", "rows", "error"),
            ((b["id"], b["state"], b["rows"], b["error"]) for b in status["batches"]),
        )
    for trouble in status["troubles"]:
        text = f"{trouble['model']}: {trouble['message']} (since {trouble['since']})"
        console.print(text)
    print_doors(status, secrets=secrets)


def print_doors(doors: Mapping[str, Any], *, secrets: bool = False) -> None:
    """Print a document of `doors`, its passwords only with `secrets`."""
    urls, airflow = doors["urls"], doors["airflow"]
    database = str(doors["database"])
    shown = airflow["password"] if secrets else "hidden: `mesh status --show-secrets`"
    if not secrets:
        database = _PASSWORD_IN_URL.sub(r"\1…\2", database)
    notes = {
        "mesh": "  (gRPC, JSON, gRPC-Web)",
        "airflow": f"  (user {airflow['user']}, password {shown})",
    }
    lines = [
        f"{title:<10}{urls.get(key, 'not open')}{notes.get(key, '')}"
        for title, key in (("mesh", "mesh"), ("MLflow", "mlflow"), ("Airflow", "airflow"))
    ]
    if doors.get("ca"):
        note = "  (clients trust it: MESH_CA, curl --cacert)"
        lines.insert(1, f"{'authority':<10}{doors['ca']}{note}")
    for line in (*lines, f"{'database':<10}{database}"):
        console.print(line, soft_wrap=True)


def _models(client: MeshClient) -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "version": model.serving_version,
            "alias": _alias(model),
            "champion": model.champion_version,
            "pinned": model.pinned,
            "detail": model.detail,
        }
        for model in client.get_fleet().models
    ]


def _unresolved(batch: batch_pb2.Batch) -> dict[str, Any]:
    """A batch that Airflow refused, or whose run failed with no later batch of its model."""
    return {
        "id": batch.id,
        "model": batch.model,
        "state": "dead" if batch.state == batch_pb2.BATCH_STATE_DEAD else "failed",
        "rows": batch.rows,
        "error": batch.error,
    }


def _trouble(trouble: batch_pb2.ModelTrouble) -> dict[str, str]:
    """Why the rows of a model do not get on."""
    since = trouble.since.ToDatetime().isoformat(sep=" ", timespec="seconds")
    return {"model": trouble.model, "message": trouble.message, "since": since}


def _alias(model: reload_pb2.FleetModel) -> str:
    if not model.serving_version:
        return ""
    return "Champion" if model.serving_version == model.champion_version else "Serving"
