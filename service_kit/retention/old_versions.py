"""Deletes the versions that nothing keeps, from inside a mesh whose artifacts only it can reach.

    python -m service_kit.retention.old_versions --mlflow http://mlflow:5000 --keep 10 --dry-run

prints them as JSON.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from service_kit.errors import MeshError
from service_kit.model_registry.expired_versions import expired_versions
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry


async def old_versions(registry: Registry, keep: int, dry_run: bool) -> list[dict[str, str]]:
    """Delete the versions that nothing keeps, or only look for them; return their names.

    Raises Unavailable while MLflow is away. A repeat does the rest.
    """
    found = []
    for model in await registry.list_models():
        for version in await expired_versions(registry, model, keep):
            if not dry_run:
                await registry.delete_version(version)
            found.append({"model": version.name, "version": version.version})
    return found


async def _main(url: str, token: MlflowToken | None, keep: int, dry_run: bool) -> int:
    registry = Registry(url, auth=token)
    try:
        print(json.dumps(await old_versions(registry, keep, dry_run)))
    except MeshError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await registry.close()
    return 0


def main(arguments: Sequence[str]) -> int:
    """Read the command line and do the work."""
    parser = argparse.ArgumentParser(description="Deletes the versions that nothing keeps.")
    parser.add_argument("--mlflow", required=True, help="URL of the MLflow server")
    parser.add_argument("--artifacts", default="", help="URL of the artifact server, if another")
    parser.add_argument("--token-file", type=Path, help="file with the token for both servers")
    parser.add_argument("--keep", type=int, required=True, help="newest versions that stay")
    parser.add_argument("--dry-run", action="store_true", help="delete nothing")
    chosen = parser.parse_args(arguments)
    if chosen.keep < 1:
        parser.error(f"--keep is at least 1, not {chosen.keep}")
    token = None
    if chosen.token_file:
        token = MlflowToken(chosen.token_file, chosen.mlflow, chosen.artifacts)
    return asyncio.run(_main(chosen.mlflow, token, chosen.keep, chosen.dry_run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
