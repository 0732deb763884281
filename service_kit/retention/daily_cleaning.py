"""Removes what Airflow or MLflow no longer needs: some minutes after the start, then once a day.

It runs beside each of them, with its settings, as a process of its own: neither lets a task or a
caller reach its tables, but each has a command that removes old rows. Only the standard library is
used, so that this one file runs in the images of both:

    python daily_cleaning.py --days 30 airflow --logs /opt/airflow/logs
    python daily_cleaning.py --days 30 mlflow --url http://mlflow:5000 --database URL
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAY_S = 86_400.0
# The first cleaning waits until the mesh is up: its command takes a core for some seconds.
FIRST_AFTER_S = 300.0
# A cleaning that failed is tried again after this time, or at the next day's.
RETRY_AFTER_S = 3_600.0
COMMAND_TIMEOUT_S = 3_600.0
HTTP_TIMEOUT_S = 10.0
MOST_NAMES = 5
# Airflow removes so many rows in one transaction.
BATCH_ROWS = 10_000
# What a turn of the loop leaves in Airflow. Its table of DAGs is not among them: after a long pause
# of the mesh every DAG looks old there, until Airflow reads the DAGs again.
AIRFLOW_TABLES = (
    *("dag_run", "task_instance", "task_instance_history", "task_reschedule", "xcom"),
    *("job", "log", "import_error", "asset_event", "callback", "deadline", "trigger"),
    *("dag_version", "revoked_token"),
)
# Folders below Airflow's folder of logs: one for each run, and one for each day of parsing DAGs.
LOG_FOLDERS = ("dag_id=*/run_id=*/", "dag_processor/*/")
_FOUND = re.compile(r"Checking table (\w+)\s+Found (\d+) rows")

Clean = Callable[[], str]
"""Removes what is old and returns what that was. Raises CleaningFailed or OSError."""


class CleaningFailed(Exception):
    """A command did not do its work; the text says which one and why."""


def airflow(command: str, days: int, logs: Path) -> str:
    """Remove the rows and the logs of runs that began more than `days` days ago."""
    oldest = datetime.now(UTC) - timedelta(days=days)
    output = _run(
        *(command, "db", "clean", "--clean-before-timestamp", oldest.isoformat()),
        *("--tables", ",".join(AIRFLOW_TABLES), "--batch-size", str(BATCH_ROWS)),
        *("--skip-archive", "--yes", "--error-on-cleanup-failure"),
    )
    rows = [f"{count} of {table}" for table, count in _FOUND.findall(output) if count != "0"]
    folders = list(old_log_folders(logs, oldest))
    for folder in folders:
        shutil.rmtree(folder)
    return f"rows: {', '.join(rows) or 'none'}; folders of logs: {len(folders)}"


def old_log_folders(logs: Path, oldest: datetime) -> Iterator[Path]:
    """Folders of logs in which nothing was made since `oldest`."""
    for pattern in LOG_FOLDERS:
        for folder in sorted(logs.glob(pattern)):
            if not folder.is_symlink() and folder.stat().st_mtime < oldest.timestamp():
                yield folder


def logs_as_json(logs: Path, days: int, dry_run: bool) -> str:
    """Remove old folders of logs, or only look for them; return their names and sizes as JSON."""
    found = []
    for folder in list(old_log_folders(logs, datetime.now(UTC) - timedelta(days=days))):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found.append({"name": str(folder.relative_to(logs)), "bytes": size})
        if not dry_run:
            shutil.rmtree(folder)
    return json.dumps(found)


def mlflow(command: str, days: int, url: str, database: str, token_file: Path | None = None) -> str:
    """Remove the runs and models that were deleted in MLflow more than `days` days ago.

    `mlflow gc` would also remove deleted experiments, and with them models that the mesh may still
    serve. So nothing is removed while there are any.
    """
    token = token_file.read_text().strip() if token_file else ""
    if names := _deleted_experiments(url, token):
        raise CleaningFailed(
            f"experiments were deleted in MLflow: {', '.join(names)}. A model that is served may"
            " lie in one of them, so nothing was removed. Restore them (`mlflow experiments"
            " restore`), or remove them for good by hand (`mlflow gc --experiment-ids`)"
        )
    output = _run(
        command,
        "gc",
        "--older-than",
        f"{days}d",
        *("--tracking-uri", url),
        *("--backend-store-uri", database),
        environment={"MLFLOW_TRACKING_TOKEN": token} if token else {},
    )
    lines = [line for line in output.splitlines() if "permanently deleted" in line]
    return f"runs and models that were deleted in MLflow: {len(lines)}"


def _deleted_experiments(url: str, token: str) -> list[str]:
    """Names of the first deleted experiments. Raises OSError while MLflow is away."""
    request = urllib.request.Request(  # noqa: S310  the operator's own URL
        f"{url}/api/2.0/mlflow/experiments/search",
        json.dumps({"view_type": "DELETED_ONLY", "max_results": MOST_NAMES}).encode(),
        {"Content-Type": "application/json"}
        | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:  # noqa: S310
        return [found["name"] for found in json.load(answer).get("experiments", [])]


def keep_clean(
    clean: Clean,
    pause: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> None:
    """Clean once a day for ever. A cleaning that failed is told and tried again after an hour."""
    pause(FIRST_AFTER_S)
    while True:
        pause(DAY_S if cleaned(clean, say) else RETRY_AFTER_S)


def cleaned(clean: Clean, say: Callable[[str], None]) -> bool:
    """Clean, say what was removed or why it failed, and return whether it worked."""
    try:
        say(f"removed {clean()}")
    except (CleaningFailed, OSError) as error:
        say(f"the cleaning failed and is tried again in {RETRY_AFTER_S / 60:.0f} minutes: {error}")
        return False
    return True


def _run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a command. Raises CleaningFailed, and OSError when it cannot be started."""
    name = " ".join(command[:3])
    try:
        result = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CleaningFailed(f"`{name}` did not end in {COMMAND_TIMEOUT_S:.0f} s") from None
    if result.returncode:
        lines = result.stdout.strip().splitlines() or [f"exit status {result.returncode}"]
        raise CleaningFailed(f"`{name}`: {' | '.join(lines[-3:])}")
    return result.stdout


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line. Raises SystemExit for a wrong one."""
    parser = argparse.ArgumentParser(description="Removes old things from Airflow or MLflow.")
    parser.add_argument("--days", type=int, default=30, help="days for which things stay")
    parser.add_argument("--once", action="store_true", help="clean now, once, and end")
    parser.add_argument("--command", help="path of the command `airflow` or `mlflow`")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("airflow", "logs"):
        kinds.add_parser(kind).add_argument("--logs", type=Path, required=True)
    kinds.choices["logs"].add_argument("--dry-run", action="store_true", help="remove nothing")
    kinds.add_parser("mlflow").add_argument("--url", required=True, help="of the MLflow server")
    kinds.choices["mlflow"].add_argument("--database", required=True, help="URL for SQLAlchemy")
    kinds.choices["mlflow"].add_argument("--token-file", type=Path, help="token for that server")
    chosen = parser.parse_args(arguments)
    if chosen.days < 1 and chosen.kind != "logs":
        parser.error(f"--days is at least 1, not {chosen.days}")
    return chosen


def main(arguments: Sequence[str]) -> int:
    """Run one of the two cleanings for ever, or once; or print the old folders of logs."""
    chosen = parsed(arguments)
    if chosen.kind == "logs":
        print(logs_as_json(chosen.logs, chosen.days, chosen.dry_run))
        return 0
    command = chosen.command or chosen.kind

    def clean() -> str:
        if chosen.kind == "airflow":
            return airflow(command, chosen.days, chosen.logs)
        return mlflow(command, chosen.days, chosen.url, chosen.database, chosen.token_file)

    if chosen.once:
        return 0 if cleaned(clean, print) else 1
    keep_clean(clean)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
