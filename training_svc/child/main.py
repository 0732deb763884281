"""The child process of one job: `python -m training_svc.child.main FOLDER PARENT_PID`.

It reports in JSON lines on standard output; each line is an object of changed job fields. What the
libraries print goes to standard error. The exit status is 0 after it reported a decision and 1
after it reported an error. The kernel kills it as soon as its parent ends in any way.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service_kit.logs import configure_logging
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.signing.keys import SigningKey, TrustedKeys
from training_svc.child.failures import explain
from training_svc.child.frozen_rows import FrozenRows
from training_svc.child.row_checks import CheckedRows, check
from training_svc.child.table_reader import freeze_table, left_out
from training_svc.child.waiting import until_available
from training_svc.jobs.folders import ROWS_FILE
from training_svc.jobs.job_spec import (
    DATABASE_URL_VARIABLE,
    MLFLOW_ARTIFACTS_VARIABLE,
    MLFLOW_TOKEN_VARIABLE,
    MLFLOW_URL_VARIABLE,
    MODEL_KEYS_VARIABLE,
    SIGNING_KEY_VARIABLE,
    JobSpec,
)

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"  # of 1,000: when memory runs out, Linux kills this process and no service

Report = Callable[[dict[str, Any]], None]


def main(arguments: list[str]) -> int:
    """Run the job of a folder and return the exit status."""
    folder, parent = Path(arguments[0]), int(arguments[1])
    _end_with(parent)
    report = _take_standard_output()
    configure_logging("training-child", os.environ.get("TRAINING_LOG_LEVEL", "INFO"))
    logging.captureWarnings(True)
    try:
        _run(folder, report)
    except Exception as error:
        failure = explain(error, folder)
        log.error("training failed", extra={"why": failure.reason}, exc_info=True)
        report({"error": failure.reason, "lasting_error": failure.lasting})
        return 1
    log.info("child process done", extra={"cpu_seconds": round(time.process_time(), 1)})
    return 0


def _run(folder: Path, report: Report) -> None:
    spec = JobSpec.read(folder)
    os.nice(spec.nice)
    rows = _frozen_rows(spec, folder, report)
    # Importing torch takes seconds, so it is done only after the rows have passed their checks.
    from training_svc.child.pipeline import Pipeline

    key_file = os.environ.get(SIGNING_KEY_VARIABLE)
    key = SigningKey.read(Path(key_file)) if key_file else None
    more = os.environ.get(MODEL_KEYS_VARIABLE)
    keys = TrustedKeys.beside(key, Path(more) if more else None) if key else None
    url, token = os.environ[MLFLOW_URL_VARIABLE], None
    if token_file := os.environ.get(MLFLOW_TOKEN_VARIABLE):
        token = MlflowToken(Path(token_file), url, os.environ.get(MLFLOW_ARTIFACTS_VARIABLE, ""))
    Pipeline(spec, folder, rows, url, report, key, token, keys).run()


def _frozen_rows(spec: JobSpec, folder: Path, report: Report) -> CheckedRows:
    path = folder / ROWS_FILE
    most = spec.params.max_examples
    if not path.exists():
        url = os.environ[DATABASE_URL_VARIABLE]
        until_available(lambda: freeze_table(url, spec.model, most, folder), "training rows")
    # The file is read also when it has just been written, so that a fresh attempt and a resumed
    # one get their rows and the digest in the same way.
    rows = FrozenRows(path)
    checked = check(rows, rows.digest, most)
    counts = {
        "train": len(checked.train),
        "test": len(checked.test),
        "dropped": checked.dropped,
        "digest": checked.digest,
        "dropped_by_reason": checked.dropped_by_reason,
        "left_out": left_out(folder) + checked.left_out,
    }
    log.info("rows", extra=counts)
    report({"rows": counts})
    return checked


def _take_standard_output() -> Report:
    """Return the function that reports, and send everything else that is printed to stderr."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def report(changes: dict[str, Any]) -> None:
        output.write(json.dumps(changes, allow_nan=False) + "\n")

    return report


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, and when memory runs out."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the training service ended before its child process began")
    Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stderr.flush()
    # Everything is written; a regular exit would spend seconds on tearing down torch and MLflow.
    os._exit(status)
