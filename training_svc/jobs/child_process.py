"""Starts and follows the child process of a job, from the service's side."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from training_svc.jobs.job import Job, Promotion
from training_svc.jobs.job_spec import (
    DATABASE_URL_VARIABLE,
    MLFLOW_ARTIFACTS_VARIABLE,
    MLFLOW_TOKEN_VARIABLE,
    MLFLOW_URL_VARIABLE,
    MODEL_KEYS_VARIABLE,
    SIGNING_KEY_VARIABLE,
    JobSpec,
)
from training_svc.settings import TrainingSettings

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20  # of a report
MAX_SHOWN_CHARACTERS = 300  # of the last log line, in a job's error
LAST_WORDS_TIMEOUT_S = 5.0  # for the rest of the log, after the child has ended

# Settings that keep the libraries from printing bars, from hanging and from sending usage data.
LIBRARY_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow must not repeat requests: only mlflow_tracking knows which steps are safe to repeat.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # torch's threads sleep while they wait for one another. Spinning, the default, is no faster on
    # idle cores, and on shared cores it takes CPU time from the threads that are waited for: beside
    # four busy processes 15 steps took 30 to 54 s instead of 7 to 8 s.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}

# The libraries in the child never call the hub and never use a token that they find by themselves;
# only hub_download does, for a model of the list.
NO_HUB = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TRUST_REMOTE_CODE": "0",
}
SECRETS = ("SLACK_URL",)
HUB_SECRETS = ("HUGGINGFACE_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
BASE_MODELS_FOLDER = "base-models"  # within the service's state folder


@dataclass(frozen=True)
class ChildEnd:
    """How a child process ended: its return code as in subprocess, and the last line of its log."""

    returncode: int
    last_line: str = ""

    def __str__(self) -> str:
        if self.returncode < 0:
            number = -self.returncode
            how = f"was killed by signal {number} ({_signal_name(number)})"
            if number == signal.SIGKILL:
                how += ", as happens when memory runs out"
        else:
            how = f"ended with exit status {self.returncode}"
        last = f"; it last said: {self.last_line}" if self.last_line else ""
        return f"the training process {how}{last}"


class ChildProcess(Protocol):
    """A started child process."""

    def reports(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield its reports, changed job fields or `error`, until it closes its output."""

    async def wait(self) -> ChildEnd:
        """Wait for its end and return how it ended."""

    def kill(self) -> None:
        """Kill it; a no-op when it has ended."""


class ChildLauncher(Protocol):
    """Starts child processes."""

    async def launch(self, job: Job, folder: Path) -> ChildProcess:
        """Start the child process of a job whose files are in `folder`.

        Raises InvalidArgument when the job's base model is not in the list any more.
        """


class PythonChildLauncher:
    """The real ChildLauncher: `python -m training_svc.child.main`."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._base_models = settings.allowed_base_models()

    async def launch(self, job: Job, folder: Path) -> ChildProcess:
        """See ChildLauncher."""
        spec = self._spec(job)
        spec.write(folder)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "training_svc.child.main", str(folder), str(os.getpid())),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            limit=MAX_LINE_BYTES,
            env=self._environment(spec),
            # Not a session of its own: Linux (autogroup) ignores niceness between sessions.
            process_group=0,
        )
        log.info("child process started", extra={"job": job.id, "child_pid": process.pid})
        return PythonChildProcess(process)

    def _spec(self, job: Job) -> JobSpec:
        settings = self._settings
        return JobSpec(
            job_id=job.id,
            request_id=job.request_id,
            model=job.model,
            attempt=job.attempt,
            params=job.params,
            promote=job.promotion is Promotion.AUTO,
            base=self._base_models.find(job.params.base_model),
            base_models_dir=str(settings.state_dir.absolute() / BASE_MODELS_FOLDER),
            base_model_mib=settings.base_model_mib,
            base_model_seconds=settings.base_model_seconds,
            device=settings.device,
            promotion_p_value=settings.promotion_p_value,
            checkpoint_seconds=settings.checkpoint_seconds,
            nice=settings.nice,
        )

    def _environment(self, spec: JobSpec) -> dict[str, str]:
        settings = self._settings
        # The service may have inherited secrets that the child does not need: Slack's webhook, and
        # the hub's token unless it downloads a model of the list.
        unneeded = SECRETS if spec.base.hub_id else (*SECRETS, *HUB_SECRETS)
        kept = {
            key: value
            for key, value in os.environ.items()
            if not any(secret in key for secret in unneeded)
        }
        environment = LIBRARY_SETTINGS | kept
        environment |= {
            DATABASE_URL_VARIABLE: settings.database_url,
            MLFLOW_URL_VARIABLE: settings.mlflow_url,
            "TRAINING_LOG_LEVEL": settings.log_level,
        }
        environment |= NO_HUB
        if settings.mlflow_token_file:
            environment[MLFLOW_TOKEN_VARIABLE] = str(settings.mlflow_token_file)
            environment[MLFLOW_ARTIFACTS_VARIABLE] = settings.mlflow_artifacts_url
        if settings.signing_key:
            environment[SIGNING_KEY_VARIABLE] = str(settings.signing_key)
        if settings.model_keys:
            environment[MODEL_KEYS_VARIABLE] = str(settings.model_keys)
        if settings.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return environment


class PythonChildProcess:
    """The real ChildProcess."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._last_line = ""
        self._log_lines = asyncio.create_task(self._pass_on_log())

    async def reports(self) -> AsyncIterator[Mapping[str, Any]]:
        """See ChildProcess."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                report = json.loads(line)
            except ValueError:  # the process ended in the middle of a line
                continue
            yield report

    async def wait(self) -> ChildEnd:
        """See ChildProcess."""
        returncode = await self._process.wait()
        await asyncio.wait({self._log_lines}, timeout=LAST_WORDS_TIMEOUT_S)
        self._log_lines.cancel()
        return ChildEnd(returncode, self._last_line)

    def kill(self) -> None:
        """See ChildProcess."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _pass_on_log(self) -> None:
        """Write the child's log, which has our format already, to the service's standard error."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(MAX_LINE_BYTES):
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()
            lines = [line for line in (rest + chunk).splitlines(keepends=True) if line.strip()]
            rest = lines[-1] if lines and not lines[-1].endswith(b"\n") else b""
            if lines:
                self._last_line = _readable(lines[-1].decode(errors="replace"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name in Python
        return "SIGRTMIN+n"


def _readable(line: str) -> str:
    """The message of a log line in our format, or else the line; cut to MAX_SHOWN_CHARACTERS."""
    try:
        entry = json.loads(line)
        text = str(entry["message"]) if isinstance(entry, dict) else line
    except (ValueError, KeyError):
        text = line
    return text.strip()[:MAX_SHOWN_CHARACTERS]
