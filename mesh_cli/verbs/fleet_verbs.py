"""Verbs about the fleet of replicas: reload, rollback, fleet, traffic."""

from typing import Annotated

import typer

from mesh.v1 import reload_pb2
from mesh_cli.terminal import output, reload_progress
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(reload)
    app.command()(rollback)
    app.command()(fleet)
    app.command()(traffic)


def reload(
    model: Model,
    version: Annotated[str, typer.Option(help="Version to serve; empty: the Champion.")] = "",
    json: Json = False,
) -> None:
    """Switch all replicas together to the Champion, or to another version.

    Example: `mesh reload reviews`
    """
    with context.client() as client, reload_progress.showing(client, model):
        answer = client.reload(model, version=version)
    if json:
        output.print_json(answer)
    else:
        print_reload(answer)


def rollback(model: Model, json: Json = False) -> None:
    """Make the previous Champion the Champion again and serve it.

    Example: `mesh rollback reviews`
    """
    with context.client() as client, reload_progress.showing(client, model):
        answer = client.rollback(model)
    if json:
        output.print_json(answer)
    else:
        print_reload(answer)


def fleet(json: Json = False) -> None:
    """Show every replica and what it serves.

    Example: `mesh fleet`
    """
    with context.client() as client:
        state = client.get_fleet()
    if json:
        output.print_json(state)
        return
    output.print_table(
        "",
        ("model", "serving", "champion", "challenger", "previous"),
        (
            (m.name, m.serving_version, m.champion_version, m.challenger_version,
             m.previous_version)
            for m in state.models
        ),
    )  # fmt: skip
    output.print_details((m.name, m.detail) for m in state.models)
    output.print_table(
        "",
        ("replica", "address", "healthy", "eligible", "device", "serves", "detail"),
        (
            (
                replica.id,
                replica.address,
                output.mark(replica.healthy),
                output.mark(replica.eligible),
                replica.device,
                ", ".join(f"{slot.name} {slot.version}" for slot in replica.models),
                replica.detail,
            )
            for replica in state.replicas
        ),
    )


def traffic(
    model: Model,
    challenger: Annotated[
        int | None, typer.Option(help="Percentage of requests for the Challenger.", min=0, max=100)
    ] = None,
    mirror: Annotated[
        int, typer.Option(help="Percentage of requests that both answer.", min=0, max=100)
    ] = 0,
    json: Json = False,
) -> None:
    """Show the traffic split of a model, or change it.

    Example: `mesh traffic reviews`
    """
    with context.client() as client:
        if challenger is None:
            answer = client.get_traffic(model)
        else:
            answer = client.set_traffic(model, challenger_weight=challenger, mirror_percent=mirror)
    if json:
        output.print_json(answer)
    else:
        console.print(
            f"{model}: champion {answer.champion_weight} %, challenger "
            f"{answer.challenger_weight} %, mirrored {answer.mirror_percent} %",
        )


def print_reload(answer: reload_pb2.ReloadResponse) -> None:
    """Print what each replica did in a Reload or a Rollback."""
    output.print_table(
        f"{answer.model}: version {answer.from_version or 'none'} → {answer.to_version}",
        ("replica", "from", "to", "prepare ms", "swap ms", "drained"),
        (
            (
                item.replica,
                item.from_version or "–",
                item.to_version,
                f"{item.prepare_ms:.0f}",
                f"{item.swap_ms:.2f}",
                item.drained_requests,
            )
            for item in answer.replicas
        ),
    )
