"""Verbs that use the models in service: predict, models."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from mesh.errors import MeshError
from mesh.v1 import predict_pb2
from mesh_cli.terminal import output
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(predict)
    app.command()(models)


def predict(
    model: Model,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts. Default: the lines of standard input.")
    ] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="Show every label.")] = False,
    json: Json = False,
) -> None:
    """Classify texts with the version in service.

    Example: `mesh predict reviews "What a delight." "Never again."`
    """
    lines = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    with context.client() as client:
        answer = client.predict(model, lines, all_scores=all_scores)
    if json:
        output.print_json(answer)
        return
    output.print_table(
        "",
        ("text", "label", "score"),
        (
            _row(text, prediction)
            for text, prediction in zip(lines, answer.predictions, strict=True)
        ),
    )
    served = answer.model
    console.print(
        f"{served.name} version {served.version} (@{served.alias}) on {answer.replica}",
    )


def _row(text: str, prediction: predict_pb2.Prediction) -> tuple[str, str, str]:
    shown = text if len(text) <= 80 else text[:79] + "…"
    if prediction.truncated:
        shown += " (only its beginning was read)"
    scores = ", ".join(f"{item.label} {item.score:.3f}" for item in prediction.scores)
    return shown, prediction.label, scores or f"{prediction.score:.3f}"


def models(json: Json = False) -> None:
    """List the models in service.

    Example: `mesh models`
    """
    details: list[tuple[str, str]] = []
    with context.client() as client:
        served = client.list_models()
        # Replicas list the models; only the control plane knows which of them MLflow has lost.
        with suppress(MeshError):
            names = {model.name for model in served}
            details = [(m.name, m.detail) for m in client.get_fleet().models if m.name in names]
    if json:
        output.print_json(served)
        return
    output.print_table(
        "",
        ("model", "version", "alias", "labels", "engine"),
        ((m.name, m.version, m.alias, ", ".join(m.labels), m.engine) for m in served),
    )
    output.print_details(details)
