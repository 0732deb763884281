"""Verbs about who may call and who did: `mesh token`, `mesh audit`."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import BadInput, CliError
from mesh_cli.terminal import output
from mesh_cli.terminal.durations import seconds
from mesh_cli.terminal.output import Json, console
from mesh_cli.tokens import audit_table
from mesh_cli.tokens.grant import ALL_MODELS, Grant, Token, check_life
from mesh_cli.tokens.own_tokens import GRANTS
from mesh_cli.tokens.token_table import TokenTable
from mesh_cli.verbs import context
from service_kit.database_roles.names import OPERATOR

TokenId = Annotated[str, typer.Argument(metavar="ID", help="As `mesh token list` shows it.")]

token = typer.Typer(help="Make, list and revoke the tokens of callers.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.add_typer(token, name="token")
    app.command()(audit)


def audit(
    model: Annotated[str, typer.Option(help="Only changes of this model.")] = "",
    subject: Annotated[
        str, typer.Option(help="Only changes by this caller; of a foreign issuer NAME@ISSUER.")
    ] = "",
    limit: Annotated[
        int, typer.Option(min=1, max=audit_table.MAX_ENTRIES, help="Most entries to show.")
    ] = 20,
    json: Json = False,
) -> None:
    """Show who changed what, the newest first: calls that write, train or release, and tokens.

    Example: `mesh audit --model reviews --limit 5`
    """
    ask = partial(context.deployment().ask, role=OPERATOR)
    found = audit_table.entries(ask, model, subject, limit)
    if json:
        output.print_json(found)
        return
    output.print_table(
        "",
        ("at", "who", "what", "model", "outcome", "request", "token", "detail"),
        (
            (each["at"][:19].replace("T", " "), each["subject"],
             each["method"].rpartition("/")[2], each["model"], each["outcome"],
             each["requestId"], each["tokenId"], each["detail"])
            for each in found
        ),
    )  # fmt: skip


@token.command()
def create(
    subject: Annotated[str, typer.Option(help="Who calls; the audit shows this name.")],
    scope: Annotated[
        list[str],
        typer.Option(help="predict, view, data, train or release; may be repeated."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model, or a beginning with a *: 'reviews*'. Default: all models."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it holds, 1m to 366d.")] = "30d",
    json: Json = False,
) -> None:
    """Make a token and print it; it is shown this once only.

    Example: `mesh token create --subject shop --scope predict --model 'reviews*' --ttl 30d`
    """
    grant = Grant(subject, _once(scope), _once(model or [ALL_MODELS]))
    life_s = check_life(seconds(ttl, "--ttl", ("s", "m", "h", "d")))
    mesh = context.deployment()
    made = mesh.tokens.keys.sign(grant, life_s)
    TokenTable(mesh.ask).add(made)
    if json:
        output.print_json({"id": made.id, "token": made.text, "expiresAt": _time(made.expires_at)})
        return
    output.errors.print(
        f"token {made.id} of {grant.subject} holds until {_time(made.expires_at)}", soft_wrap=True
    )
    console.print(made.text, soft_wrap=True)


@token.command("list")
def list_tokens(json: Json = False) -> None:
    """Show the tokens that have not ended, without their texts.

    Example: `mesh token list`
    """
    tokens = TokenTable(context.deployment().ask).tokens()
    if json:
        output.print_json(tokens)
        return
    output.print_table(
        "",
        ("id", "subject", "scopes", "models", "expires", "revoked"),
        (
            (each["id"], each["subject"], each["scopes"], each["models"],
             each["expiresAt"][:16], (each["revokedAt"] or "")[:16])
            for each in tokens
        ),
    )  # fmt: skip


@token.command()
def revoke(token_id: TokenId, json: Json = False) -> None:
    """Refuse a token from now on; it holds at every door within 5 s.

    Example: `mesh token revoke 0f3c…`
    """
    mesh = context.deployment()
    subject = _revoke_own(mesh, token_id) or TokenTable(mesh.ask).revoke(token_id)
    if json:
        output.print_json({"id": token_id, "subject": subject, "revoked": True})
    else:
        console.print(f"the token {token_id} of {subject} is refused within 5 s", soft_wrap=True)


@token.command()
def show(json: Json = False) -> None:
    """Print the operator's token, which may do everything; the other verbs send it by themselves.

    Example: `curl -H "Authorization: Bearer $(mesh token show)" http://127.0.0.1:8000/v1/fleet`
    """
    text = context.deployment().tokens.operator
    if not text:
        raise CliError("there is no operator's token here: `mesh up` makes it")
    if json:
        output.print_json({"token": text})
    else:
        console.print(text, soft_wrap=True)


@token.command()
def rotate(
    now: Annotated[
        bool, typer.Option("--now", help="Refuse all tokens of the old keys at once.")
    ] = False,
    json: Json = False,
) -> None:
    """Sign with a new key from now on; tokens of the old one hold until they end.

    The tokens of the operator and of Airflow are made anew. Example: `mesh token rotate`
    """
    mesh = context.deployment()
    mesh.tokens.keys.rotate(drop_old=now)
    renewed = mesh.tokens.make()
    try:
        dropped = "old keys are dropped" if now else "old keys hold until their tokens end"
        audit_table.note(mesh.ask, "mesh token rotate", dropped)
    except CliError as error:
        output.errors.print(f"the audit has no entry of this: {error}", soft_wrap=True)
    if json:
        output.print_json({"renewed": renewed, "oldTokensHold": not now})
    else:
        end = "are refused within 5 s" if now else "hold until they end"
        console.print(f"a new key signs; tokens of the old one {end}", soft_wrap=True)


def _revoke_own(mesh: Deployment, token_id: str) -> str:
    """Revoke a token of the mesh itself and put a new one in its place; empty: it is none."""
    found = mesh.tokens.named(token_id)
    if found is None:
        return ""
    name, end = found
    old = Token(token_id, GRANTS[name], int(datetime.now(UTC).timestamp()), end, "")
    TokenTable(mesh.ask).add(old, revoked=True)
    mesh.tokens.renew(name)
    return GRANTS[name].subject


def _once(values: list[str]) -> tuple[str, ...]:
    if any(not value for value in values):
        raise BadInput("--scope and --model must not be empty")
    return tuple(dict.fromkeys(values))


def _time(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
