"""The `mesh` command."""

import sys
from typing import Annotated

import typer

from mesh import errors as call_errors
from mesh_cli.errors import CliError, exit_code_of
from mesh_cli.terminal.interrupts import end_by_exception
from mesh_cli.terminal.output import errors
from mesh_cli.verbs import (
    access_verbs,
    bench_verb,
    canary_verb,
    context,
    data_verbs,
    demo_verb,
    fleet_verbs,
    gc_verb,
    init_verb,
    model_verbs,
    remove_verb,
    run_verbs,
    train_verbs,
)

app = typer.Typer(
    name="mesh",
    help="Run a mesh that keeps a text classifier fresh, and speak to it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
# `mesh --help` lists the verbs in this order.
VERBS = (
    init_verb,
    run_verbs,
    data_verbs,
    model_verbs,
    train_verbs,
    fleet_verbs,
    canary_verb,
    remove_verb,
    bench_verb,
    access_verbs,
    gc_verb,
    demo_verb,
)
for module in VERBS:
    module.register(app)


@app.callback()
def choose(
    which: Annotated[
        str,
        typer.Option(
            "--context",
            envvar="MESH_CONTEXT",
            metavar="local|compose",
            help="Speak to the local processes or to the containers.",
        ),
    ] = context.LOCAL,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token of the caller. Default: MESH_TOKEN, the file MESH_TOKEN_FILE, else the"
            " operator's token of the mesh on this machine."
        ),
    ] = None,
) -> None:
    """Options of every verb."""
    context.choose(which)
    context.give_token(token)


def main() -> None:
    """Run the command. Exit codes: 0 done, 1 failed, 2 bad input, 3 no mesh; `canary`: 4, 5."""
    end_by_exception()
    try:
        app()
    except CliError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except call_errors.MeshError as error:
        _complain(f"{error.code.name}: {error}")
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(message: str) -> None:
    errors.print("error:", message, style="red", soft_wrap=True)


if __name__ == "__main__":
    main()
