"""Runs the jobs one at a time: first those that a restart interrupted, then the queue in order."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from service_kit.database import until_available
from service_kit.errors import Aborted, MeshError, Unavailable
from training_svc.jobs.child_process import ChildLauncher, ChildProcess
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.job import Job, State
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore
from training_svc.jobs.promoter import Promoter

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 1.0  # least seconds between two writes of progress
PAUSE_S = 0.5  # seconds before a part that is away is tried again
# Comparisons of one job, each with a Champion that is replaced before the promotion.
MAX_COMPARISONS = 5


class Cancelled(Exception):
    """CancelTraining ended the job."""


class JobRunner:
    """Trains one job at a time, because the device has room for one training.

    `tidy_up(model)` is called for every job that has ended; it never raises.
    """

    def __init__(
        self,
        store: JobStore,
        changes: JobChanges,
        launcher: ChildLauncher,
        promoter: Promoter,
        folders: JobFolders,
        tidy_up: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._changes = changes
        self._launcher = launcher
        self._promoter = promoter
        self._folders = folders
        self._tidy_up = tidy_up
        self._woken = asyncio.Event()
        self._job_id = ""
        self._child: ChildProcess | None = None
        self._to_cancel: set[str] = set()
        self._saved_at = 0.0

    def wake(self) -> None:
        """Look for queued jobs: one was submitted."""
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        """Cancel the job if it is the one that runs; the store remembers all other cancels."""
        self._to_cancel.add(job_id)
        if job_id == self._job_id and self._child is not None:
            self._child.kill()

    async def run(self) -> None:
        """Run jobs for ever. When cancelled, kill the child; the next start resumes its job."""
        while True:
            try:
                await self._run_next()
            except Exception:
                log.exception("the runner goes on after an error")
                await asyncio.sleep(PAUSE_S)

    async def _run_next(self) -> None:
        self._woken.clear()
        jobs = await until_available(self._store.unfinished, "training jobs")
        self._folders.sweep({job.folder_name for job in jobs})
        if not jobs:
            await self._woken.wait()
            return
        job = jobs[0]
        self._job_id = job.id
        try:
            ended = await self._ended(job)
        finally:
            self._job_id = ""
            self._to_cancel.discard(job.id)
        await until_available(lambda: self._store.save(ended), "end of a training job")
        log.info(
            "training ended",
            extra={"job": job.id, "model": job.model, "state": ended.state, "why": ended.error},
        )
        self._changes.publish(ended)
        if ended.state is State.FAILED:
            self._folders.lighten(ended.folder_name)
        else:
            self._folders.remove(ended.folder_name)
        await self._tidy_up(ended.model)

    async def _ended(self, job: Job) -> Job:
        """Run one job and return it in its final state."""
        if job.state is not State.QUEUED:
            log.info("resuming", extra={"job": job.id, "attempt": job.attempt})
        live = _Live(job.started())
        try:
            await self._note(live, urgent=True)
            await self._decide(live)
            return live.job.ended(State.SUCCEEDED)
        except Cancelled:
            return await self._ended_early(live.job.ended(State.CANCELLED))
        except TrainingFailed as error:
            return await self._ended_early(live.job.ended(State.FAILED, str(error)))
        except OSError as error:
            # Often the disk has no room for the job's folder.
            log.warning("no training process", extra={"job": job.id, "why": str(error)})
            message = f"the training process cannot be started: {error}"
            return await self._ended_early(live.job.ended(State.FAILED, message))
        except Exception as error:
            log.exception("a training job failed in the service", extra={"job": job.id})
            message = str(error) if isinstance(error, MeshError) else f"internal error: {error!r}"
            return await self._ended_early(live.job.ended(State.FAILED, message))

    async def _decide(self, live: "_Live") -> None:
        """Train and carry the decision out; compare again whenever the Champion has changed."""
        for _ in range(MAX_COMPARISONS):
            await self._train(live)
            if await self._carry_out(live):
                return
        raise TrainingFailed(
            f"the Champion of {live.job.model} changed during each of {MAX_COMPARISONS} "
            "comparisons; nothing was promoted: train again"
        )

    async def _train(self, live: "_Live") -> None:
        """Run the child process to its end. Raises TrainingFailed or Cancelled."""
        self._check_cancelled(live.job)
        folder = self._folders.make(live.job.folder_name)
        error = ""
        decided = False
        child = self._child = await self._launcher.launch(live.job, folder)
        try:
            if live.job.id in self._to_cancel:  # the cancel came while the child was started
                child.kill()
            async for report in child.reports():
                error = report.get("error", error)
                decided = decided or "decision" in report
                live.job = live.job.reported(report)
                await self._note(live, urgent=report.keys() != {"progress"})
            ended = await child.wait()
        except BaseException:
            child.kill()
            await child.wait()
            raise
        finally:
            self._child = None
        self._check_cancelled(live.job)
        if error:
            raise TrainingFailed(error)
        if ended.returncode != 0 or not decided:
            raise TrainingFailed(str(ended))

    async def _note(self, live: "_Live", *, urgent: bool) -> None:
        """Tell the watchers at once, and the store if urgent or SAVE_INTERVAL_S has passed.

        A failed write is skipped, because the end of the job is written until it succeeds.
        """
        self._changes.publish(live.job)
        if urgent or time.monotonic() - self._saved_at >= SAVE_INTERVAL_S:
            self._saved_at = time.monotonic()
            with contextlib.suppress(Unavailable):
                await self._store.save(live.job)

    async def _carry_out(self, live: "_Live") -> bool:
        """Carry the decision out. False: the Champion has changed since, so compare again."""
        while True:
            self._check_cancelled(live.job)
            try:
                await self._promoter.carry_out(live.job)
                return True
            except Unavailable as error:
                log.warning("promotion waits", extra={"job": live.job.id, "why": str(error)})
                await asyncio.sleep(PAUSE_S)
            except Aborted as error:
                log.info("comparing again", extra={"job": live.job.id, "why": str(error)})
                return False

    async def _ended_early(self, job: Job) -> Job:
        try:
            await self._promoter.end_run(job)
        except MeshError as error:
            log.warning("MLflow keeps the run as running", extra={"why": str(error)})
        # The decision was not carried out, so the job has none.
        return replace(job, decision=None)

    def _check_cancelled(self, job: Job) -> None:
        if job.cancel_requested or job.id in self._to_cancel:
            raise Cancelled


class TrainingFailed(Exception):
    """The child process ended badly; the message is the job's error."""


class _Live:
    """Holds the newest state of the job that runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
