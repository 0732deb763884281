"""The verb `mesh remove`: ends a model."""

import sys
from typing import Annotated

import typer

from mesh.v1 import reload_pb2
from mesh_cli.errors import BadInput
from mesh_cli.terminal import output
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(remove)


def remove(
    model: Model,
    with_rows: Annotated[
        bool, typer.Option("--with-rows", help="Also drop its training table with every row.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether that is meant.")] = False,
    json: Json = False,
) -> None:
    """End a model: its jobs are cancelled, replicas unload it, and its versions are deleted.

    Its training table stays unless --with-rows. None of this can be undone.

    Example: `mesh remove reviews --yes`
    """
    if not yes:
        _confirm(model, with_rows)
    with context.client() as client:
        answer = client.remove_model(model, with_rows=with_rows)
    if json:
        output.print_json(answer)
    else:
        for line in _lines(answer):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _confirm(model: str, with_rows: bool) -> None:
    """Ask on a terminal. Raises BadInput elsewhere, and typer.Abort unless the answer is yes."""
    if not sys.stdin.isatty():
        raise BadInput(
            f"`mesh remove {model}` cannot be undone: say --yes where nobody can be asked"
        )
    rows = "and every row of its training table" if with_rows else "its training table stays"
    typer.confirm(f"Remove {model} with all its versions, {rows}?", abort=True, err=True)


def _lines(answer: reload_pb2.RemoveModelResponse) -> list[str]:
    versions = ", ".join(answer.versions) or "none"
    rows = "dropped" if answer.rows_removed else "not touched"
    lines = [f"{answer.model} is removed: versions {versions}; its training table was {rows}"]
    if answer.replicas_away:
        away = ", ".join(answer.replicas_away)
        lines.append(f"these replicas do not answer, and drop it when they do: {away}")
    return lines
