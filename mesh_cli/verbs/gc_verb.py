"""The verb `mesh gc`: removes old versions and folders that nothing uses."""

import asyncio
from typing import Annotated, Any

import typer

from mesh_cli.errors import CliError, NotUp
from mesh_cli.local.garbage import Collector, Garbage
from mesh_cli.terminal import output
from mesh_cli.terminal.output import console
from mesh_cli.tokens.own_tokens import OPERATOR_FILE
from mesh_cli.verbs import context
from mesh_cli.verbs.context import local_mesh
from service_kit.errors import MeshError
from service_kit.model_registry.expired_versions import KEEP_VERSIONS
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry

KEEP_LOG_DAYS = 30
_MIB = 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("gc")(gc)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, remove nothing.")] = False,
    keep: Annotated[
        int, typer.Option(min=1, help="Newest versions of each model that always stay.")
    ] = KEEP_VERSIONS,
    days: Annotated[
        int, typer.Option(min=0, help="Days that Airflow's task logs stay.")
    ] = KEEP_LOG_DAYS,
    json: output.Json = False,
) -> None:
    """Remove versions that nothing uses, their copies at replicas, and folders of ended work.

    Champion, Serving, Previous and Challenger always stay, and so do the newest versions. In
    containers, replicas and the training service remove their old files by themselves.

    Example: `mesh gc --dry-run`
    """
    if context.chosen() == context.COMPOSE:
        deployment = context.compose_deployment()
        if not deployment.is_up():
            raise NotUp("no mesh is up in containers: run `mesh --context compose up`")
        document = _document(dry_run, deployment.collect_garbage(dry_run, keep, days))
    else:
        mesh = local_mesh()
        if not mesh.is_up():
            raise NotUp(f"no mesh is up in {mesh.home.root}: run `mesh up`")
        document = asyncio.run(_collect(mesh.settings.mlflow_port, dry_run, keep, days))
    if json:
        output.print_json(document)
        return
    if document["items"]:
        output.print_table(
            "",
            ("kind", "name", "MiB", "why"),
            (
                (item["kind"], item["name"], _mib(item["bytes"]), item["why"])
                for item in document["items"]
            ),
        )
    did = "would be removed" if dry_run else "removed"
    console.print(f"{len(document['items'])} things, {document['bytes'] / _MIB:.1f} MiB, {did}")


async def _collect(mlflow_port: int, dry_run: bool, keep: int, days: int) -> dict[str, Any]:
    url, home = f"http://127.0.0.1:{mlflow_port}", local_mesh().home
    registry = Registry(url, auth=MlflowToken(home.secrets / OPERATOR_FILE, url))
    try:
        collector = Collector(local_mesh(), registry, keep, days)
        garbage = await collector.find()
        items = [_item(piece) for piece in garbage]
        if not dry_run:
            for piece in garbage:
                await collector.remove(piece)
    except MeshError as error:
        raise CliError(str(error)) from error
    finally:
        await registry.close()
    return _document(dry_run, items)


def _document(dry_run: bool, items: list[dict[str, Any]]) -> dict[str, Any]:
    size = sum(item["bytes"] or 0 for item in items)
    return {"dryRun": dry_run, "items": items, "bytes": size}


def _mib(size: int | None) -> str:
    """Megabytes; nothing where the size is not known here."""
    return "" if size is None else f"{size / _MIB:.1f}"


def _item(garbage: Garbage) -> dict[str, Any]:
    return {
        "kind": garbage.kind,
        "name": garbage.name,
        "bytes": garbage.size,
        "why": garbage.why,
    }
