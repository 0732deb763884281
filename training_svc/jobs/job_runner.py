"""Runs the jobs one at a time: first those that a restart interrupted, then the queue in order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from service_kit.database import until_available
from service_kit.errors import Aborted, InvalidArgument, MeshError, NotFound, Unavailable
from training_svc.jobs.child_process import ChildLauncher
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.job import Job, State
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore
from training_svc.jobs.promoter import Promoter
from training_svc.jobs.taken_job import Cancelled, Lost, TakenJob

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # seconds before a part that is away is tried again
# Seconds between two looks for jobs that another service submitted or has left unfinished.
LOOK_EVERY_S = 5.0
# Comparisons of one job, each with a Champion that is replaced before the promotion.
MAX_COMPARISONS = 5


class TrainingFailed(Exception):
    """The child process ended badly; the message is the job's error.

    `lasting`: another attempt would fail in the same way.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


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
        self._taken: TakenJob | None = None

    def wake(self) -> None:
        """Look for queued jobs: one was submitted."""
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        """Cancel the job at once if it is the one that runs here; the store remembers all cancels,
        and whichever service runs the job looks there."""
        if self._taken is not None and self._taken.job.id == job_id:
            self._taken.cancel()

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
        unfinished = await until_available(self._store.unfinished, "training jobs")
        self._folders.sweep({job.folder_name for job in unfinished})
        worker = self._folders.worker()
        job = await until_available(lambda: self._store.take(worker), "training jobs")
        if job is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_EVERY_S)
            return
        taken = self._taken = TakenJob(job, worker, self._store, self._changes)
        try:
            async with taken.kept_alive():
                ended = await self._ended(taken)
                stored = await until_available(
                    lambda: self._store.end(ended, worker), "end of a training job"
                )
            if not stored.state.is_final:
                raise Lost
        except (Lost, NotFound):
            log.warning("another service has the job now", extra={"job": job.id})
            self._changes.forget(job.id)
            return
        finally:
            self._taken = None
        log.info(
            "training ended",
            extra={"job": job.id, "model": job.model, "state": stored.state, "why": stored.error},
        )
        self._changes.forget(job.id)
        self._changes.publish(stored)
        if stored.state is State.FAILED:
            self._folders.lighten(stored.folder_name)
        else:
            self._folders.remove(stored.folder_name)
        await self._tidy_up(stored.model)

    async def _ended(self, taken: TakenJob) -> Job:
        """Work on a job to its end and return it in its final state. Raises Lost."""
        try:
            await taken.note(urgent=True)
            await self._decide(taken)
            return taken.job.ended(State.SUCCEEDED)
        except Cancelled:
            return await self._ended_early(taken.job.ended(State.CANCELLED))
        except Lost:
            raise
        except TrainingFailed as error:
            ended = taken.job.ended(State.FAILED, str(error), lasting=error.lasting)
            return await self._ended_early(ended)
        except OSError as error:
            # Often the disk has no room for the job's folder.
            log.warning("no training process", extra={"job": taken.job.id, "why": str(error)})
            message = f"the training process cannot be started: {error}"
            return await self._ended_early(taken.job.ended(State.FAILED, message))
        except Exception as error:
            log.exception("a training job failed in the service", extra={"job": taken.job.id})
            message = str(error) if isinstance(error, MeshError) else f"internal error: {error!r}"
            return await self._ended_early(taken.job.ended(State.FAILED, message))

    async def _decide(self, taken: TakenJob) -> None:
        """Train and carry the decision out; compare again whenever the Champion has changed."""
        # A job that was committed before a restart has its decision already.
        if taken.job.committed and await self._carry_out(taken):
            return
        for _ in range(MAX_COMPARISONS):
            await self._train(taken)
            await self._explain(taken)
            await self._commit(taken)
            if await self._carry_out(taken):
                return
        raise TrainingFailed(
            f"the Champion of {taken.job.model} changed during each of {MAX_COMPARISONS} "
            "comparisons; nothing was promoted: train again"
        )

    async def _train(self, taken: TakenJob) -> None:
        """Run the child process to its end. Raises TrainingFailed, Cancelled or Lost."""
        taken.check()
        folder = self._folders.make(taken.job.folder_name)
        failure: TrainingFailed | None = None
        decided = False
        try:
            child = taken.child = await self._launcher.launch(taken.job, folder)
        except InvalidArgument as error:
            raise TrainingFailed(str(error), lasting=True) from error
        try:
            if taken.ending:  # the cancel came while the child was started
                child.kill()
            async for report in child.reports():
                if "error" in report:
                    failure = TrainingFailed(
                        report["error"], lasting=bool(report.get("lasting_error"))
                    )
                decided = decided or "decision" in report
                await taken.reported(report)
            ended = await child.wait()
        except BaseException:
            child.kill()
            await child.wait()
            raise
        finally:
            taken.child = None
        taken.check()
        if failure is not None:
            raise failure
        if ended.returncode != 0 or not decided:
            raise TrainingFailed(str(ended))

    async def _explain(self, taken: TakenJob) -> None:
        """Tag the version with the decision. Raises Cancelled, also while MLflow is away."""
        while True:
            taken.check()
            try:
                return await self._promoter.explain(taken.job)
            except Unavailable as error:
                log.warning("promotion waits", extra={"job": taken.job.id, "why": str(error)})
                await asyncio.sleep(PAUSE_S)

    async def _commit(self, taken: TakenJob) -> None:
        """Pass the point behind which the job cannot be cancelled. Raises Cancelled or Lost."""
        job = taken.job
        stored = await until_available(
            lambda: self._store.commit(job, taken.worker), "a training's decision"
        )
        if stored is None:
            now = await until_available(lambda: self._store.get(job.id), "training jobs")
            raise Cancelled if now.cancel_requested and not now.state.is_final else Lost
        taken.job = replace(job, committed=True)

    async def _carry_out(self, taken: TakenJob) -> bool:
        """Carry the decision out. False: the Champion has changed since, so compare again."""
        while True:
            taken.check_lost()
            try:
                await self._promoter.carry_out(taken.job)
                return True
            except Unavailable as error:
                # Nobody knows now whether the version has become Champion.
                taken.uncertain = True
                log.warning("promotion waits", extra={"job": taken.job.id, "why": str(error)})
                await asyncio.sleep(PAUSE_S)
            except Aborted as error:
                log.info("comparing again", extra={"job": taken.job.id, "why": str(error)})
                if not taken.uncertain:
                    await self._reopen(taken)
                return False

    async def _reopen(self, taken: TakenJob) -> None:
        """Let callers cancel the job again. Raises Lost."""
        job = taken.job
        stored = await until_available(
            lambda: self._store.reopen(job, taken.worker), "a training's decision"
        )
        if stored is None:
            raise Lost
        taken.job = replace(job, committed=False)

    async def _ended_early(self, job: Job) -> Job:
        try:
            await self._promoter.end_run(job)
        except MeshError as error:
            log.warning("MLflow keeps the run as running", extra={"why": str(error)})
        # The decision was not carried out, so the job has none.
        return replace(job, decision=None)
