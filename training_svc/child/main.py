"""The child process of one job: `python -m training_svc.child.main FOLDER PARENT_PID`.

It says what happened in JSON lines on standard output, each an object of changed job fields; what
the libraries print goes to standard error. Exit status 0: a decision was reported; 1: an error
was. It ends with its parent, whatever ends that.
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

from service_kit.errors import MeshError
from service_kit.logs import configure_logging
from training_svc.child.row_snapshot import read_rows
from training_svc.child.rows import CheckedRows, UnusableRows, check, freeze, thaw
from training_svc.child.waiting import until_available
from training_svc.jobs.job_spec import DATABASE_URL_VARIABLE, MLFLOW_URL_VARIABLE, JobSpec
from training_svc.learning.whole_files import is_full

log = logging.getLogger(__name__)

ROWS_FILE = "rows.jsonl"
PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"  # of 1,000: when memory runs out, this process goes and not the services

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
    except (UnusableRows, MeshError, OSError, ValueError) as error:
        log.error("training failed", extra={"why": str(error)}, exc_info=True)
        report({"error": _told(folder, str(error) or type(error).__name__)})
        return 1
    except Exception as error:
        log.exception("training failed")
        report({"error": _told(folder, f"{type(error).__name__}: {error}")})
        return 1
    log.info("child process done", extra={"cpu_seconds": round(time.process_time(), 1)})
    return 0


def _told(folder: Path, error: str) -> str:
    """The error, with what the libraries do not say: they know only that a write failed."""
    return f"the disk of {folder} is full: {error}" if is_full(folder) else error


def _run(folder: Path, report: Report) -> None:
    spec = JobSpec.read(folder)
    os.nice(spec.nice)
    rows = _frozen_rows(spec, folder, report)
    # Only now the seconds of importing torch: bad rows are told at once.
    from training_svc.child.pipeline import Pipeline

    Pipeline(spec, folder, rows, os.environ[MLFLOW_URL_VARIABLE], report).run()


def _frozen_rows(spec: JobSpec, folder: Path, report: Report) -> CheckedRows:
    path = folder / ROWS_FILE
    if not path.exists():
        url = os.environ[DATABASE_URL_VARIABLE]
        freeze(until_available(lambda: read_rows(url, spec.model), "training rows"), path)
    rows = thaw(path)
    checked = check(rows, spec.params.max_examples)
    counts = {
        "train": len(checked.train),
        "test": len(checked.test),
        "dropped": checked.dropped,
        "digest": checked.digest,
    }
    log.info("rows", extra=counts)
    report({"rows": counts})
    return checked


def _take_standard_output() -> Report:
    """Keep standard output for reports; whatever else prints there lands on standard error."""
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
    # All is written, and taking torch and MLflow apart would cost seconds.
    os._exit(status)
