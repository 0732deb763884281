"""The daily cleaning with twins of the commands `airflow` and `mlflow`."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service_kit.retention import daily_cleaning
from service_kit.retention.daily_cleaning import DAY_S, FIRST_AFTER_S, RETRY_AFTER_S, CleaningFailed


class Ended(BaseException):
    """Ends the endless loop."""


def twin(folder: Path, script: str) -> str:
    """A command that writes its arguments to `arguments` and then does what `script` says."""
    command = folder / "command"
    command.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\n{script}\n')
    command.chmod(0o700)
    return str(command)


def log_folder(logs: Path, name: str, days: float) -> Path:
    folder = logs / name
    (folder / "task_id=Train_Model").mkdir(parents=True)
    then = time.time() - days * DAY_S
    os.utime(folder, (then, then))
    return folder


@contextmanager
def mlflow_twin(*experiments: str) -> Iterator[str]:
    """A server that lists these experiments as deleted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["view_type"] == "DELETED_ONLY"
            body = json.dumps({"experiments": [{"name": name} for name in experiments]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_airflow_is_cleaned_of_rows_and_of_folders_of_logs(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    old = log_folder(logs, "dag_id=loop/run_id=old", 31)
    new = log_folder(logs, "dag_id=loop/run_id=new", 29)
    old_parsing = log_folder(logs, "dag_processor/2026-10-01", 31)
    (logs / "dag_processor" / "latest").symlink_to(old_parsing)
    other = log_folder(logs, "somebody_elses", 99)
    output = "Checking table dag_run\\nFound 3 rows meeting\\n\\nChecking table log\\nFound 0 rows"
    command = twin(tmp_path, f"printf '{output}'")

    said = daily_cleaning.airflow(command, 30, logs)

    assert said == "rows: 3 of dag_run; folders of logs: 2"
    assert [folder.exists() for folder in (old, new, old_parsing, other)] == [
        *(False, True, False, True)
    ]
    words = (tmp_path / "arguments").read_text().split()
    before = datetime.fromisoformat(words[words.index("--clean-before-timestamp") + 1])
    assert timedelta(0) <= datetime.now(UTC) - timedelta(days=30) - before < timedelta(minutes=1)
    assert {"--skip-archive", "--yes", "--error-on-cleanup-failure"} < set(words)
    tables = words[words.index("--tables") + 1].split(",")
    assert {"dag_run", "log", "xcom"} < set(tables)
    assert "dag" not in tables


def test_logs_stay_when_the_rows_cannot_be_removed(tmp_path: Path) -> None:
    old = log_folder(tmp_path / "logs", "dag_id=loop/run_id=old", 31)
    command = twin(tmp_path, "echo no database; exit 1")
    with pytest.raises(CleaningFailed, match="db clean`: no database"):
        daily_cleaning.airflow(command, 30, tmp_path / "logs")
    assert old.exists()


def test_mlflow_is_cleaned_of_what_was_deleted_in_it(tmp_path: Path) -> None:
    command = twin(tmp_path, "echo Run with ID 1 has been permanently deleted.")
    with mlflow_twin() as url:
        said = daily_cleaning.mlflow(command, 30, url, "sqlite:///db")
    assert said == "runs and models that were deleted in MLflow: 1"
    words = (tmp_path / "arguments").read_text().split()
    assert words[:3] == ["gc", "--older-than", "30d"]
    assert words[3:] == ["--tracking-uri", url, "--backend-store-uri", "sqlite:///db"]


def test_nothing_is_removed_while_a_deleted_experiment_may_hold_a_served_model(
    tmp_path: Path,
) -> None:
    command = twin(tmp_path, "exit 0")
    with (
        mlflow_twin("reviews", "intents") as url,
        pytest.raises(CleaningFailed, match="reviews, intents"),
    ):
        daily_cleaning.mlflow(command, 30, url, "sqlite:///db")
    assert not (tmp_path / "arguments").exists()


def test_it_waits_at_first_cleans_daily_and_tries_a_failed_cleaning_again_after_an_hour() -> None:
    pauses: list[float] = []
    said: list[str] = []
    cleanings: Iterator[str | Exception] = iter(
        ["3 rows", CleaningFailed("no database"), OSError("refused"), "nothing"]
    )

    def clean() -> str:
        outcome = next(cleanings)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise Ended

    with pytest.raises(Ended):
        daily_cleaning.keep_clean(clean, pause, said.append)

    assert pauses == [FIRST_AFTER_S, DAY_S, RETRY_AFTER_S, RETRY_AFTER_S, DAY_S]
    again = "the cleaning failed and is tried again in 60 minutes"
    assert said == [
        *("removed 3 rows", f"{again}: no database", f"{again}: refused", "removed nothing")
    ]


def test_one_cleaning_tells_by_its_exit_code_whether_it_worked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["--once", "--command", str(tmp_path / "none"), "airflow", "--logs", str(tmp_path)]
    assert daily_cleaning.main(missing) == 1
    assert "No such file" in capsys.readouterr().out
    assert daily_cleaning.main(["--once", "--command", twin(tmp_path, ""), *missing[3:]]) == 0


@pytest.mark.parametrize("days", ["0", "-1", "many"])
def test_days_are_at_least_one(days: str) -> None:
    with pytest.raises(SystemExit):
        daily_cleaning.main(
            ["--days", days, "mlflow", *("--url", "http://127.0.0.1:1", "--database", "x")]
        )


@pytest.mark.parametrize("dry_run", [True, False])
def test_old_folders_of_logs_are_told_with_their_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    old = log_folder(tmp_path, "dag_id=loop/run_id=old", 3)
    (old / "task_id=Train_Model" / "attempt=1.log").write_text("12345")
    new = log_folder(tmp_path, "dag_id=loop/run_id=new", 1)
    words = ["--days", "2", "logs", "--logs", str(tmp_path), *(["--dry-run"] if dry_run else [])]
    assert daily_cleaning.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == [{"name": "dag_id=loop/run_id=old", "bytes": 5}]
    assert old.exists() is dry_run
    assert new.exists()


def test_the_file_needs_the_standard_library_only() -> None:
    text = Path(daily_cleaning.__file__).read_text()
    assert "service_kit" not in text
    assert "import psycopg2" not in text
