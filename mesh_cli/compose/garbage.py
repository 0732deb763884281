"""Removes old versions and logs of a mesh in containers, by commands inside of them.

Containers remove the other things that `mesh gc` removes from a local mesh by themselves: the
training service removes the folders of ended jobs, each replica removes its copies of old versions,
and the files of a replica that was removed end with its container.
"""

import json
from typing import Any

from mesh_cli.compose.engine import Engine
from mesh_cli.errors import CliError

# The service, and the command that prints what it found as JSON. The paths are those of the images.
_VERSIONS = ("training", "python", "-m", "service_kit.retention.old_versions")
_MLFLOW = (
    *("--mlflow", "http://mlflow:5000", "--artifacts", "http://artifacts:5000"),
    *("--token-file", "/run/secrets/mlflow_token"),
)
_LOGS = ("airflow-cleaning", "python", "/opt/mesh/daily_cleaning.py")
_LOG_FOLDER = ("logs", "--logs", "/opt/airflow/logs")


def collect(engine: Engine, dry_run: bool, keep: int, days: int) -> list[dict[str, Any]]:
    """Remove what nothing needs any more, or only look for it; return it. Raises CliError."""
    dry = ("--dry-run",) if dry_run else ()
    versions = _found(engine, *_VERSIONS, *_MLFLOW, "--keep", str(keep), *dry)
    logs = _found(engine, *_LOGS, "--days", str(days), *_LOG_FOLDER, *dry)
    return [
        *(
            {
                "kind": "version",
                "name": f"{item['model']} {item['version']}",
                # Only the artifact server sees the files.
                "bytes": None,
                "why": f"no alias, and not among the newest {keep}",
            }
            for item in versions
        ),
        *(
            {
                "kind": "task log",
                "name": item["name"].rpartition("/")[2].removeprefix("run_id="),
                "bytes": item["bytes"],
                "why": f"older than {days} days",
            }
            for item in logs
        ),
    ]


def _found(engine: Engine, *command: str) -> list[dict[str, Any]]:
    text = engine.compose("exec", "-T", *command)
    try:
        # Lines before the last are other output of the command, such as warnings.
        found: list[dict[str, Any]] = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise CliError(
            f"`docker compose exec {' '.join(command[:4])}` printed no list: {text[:200]!r}"
        ) from error
    return found
