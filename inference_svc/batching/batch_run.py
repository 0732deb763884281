"""Computes one batch, so that a text on which the engine fails costs its own request only."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference_svc.batching.job import Batch, Job, QueuedText
from inference_svc.engines.base import FloatArray
from inference_svc.metrics import exported as metrics
from inference_svc.model.loaded_model import LoadedModel

log = logging.getLogger(__name__)


@dataclass
class BatchRun:
    """The result of one batch, whose answers have been entered into its jobs."""

    tokens: int = 0
    """Tokens that the engine computed, padding included."""

    failures: int = 0
    """Computations that failed."""

    failed: list[Job] = field(default_factory=list)
    """Jobs with a text on which the engine fails, though it computes others."""

    broken: Exception | None = None
    """Why the model computes nothing any more, not even texts that are known to work."""


def run_batch(batch: Batch, check: Callable[[LoadedModel], None]) -> BatchRun:
    """Compute a batch; what fails is computed again in halves.

    A failure of a single text is its own fault only if the model still computes others: `check`
    raises an error when the model does not answer texts whose answers are known. Out of memory is
    a failure like any other: a smaller batch may fit.
    """
    run = BatchRun()
    works = False
    parts: list[Sequence[QueuedText]] = [batch.texts]
    while parts:
        part = parts.pop()
        if run.failures:
            part = _unanswered(part, run)
            if not part:
                continue
        try:
            computed = batch.model.run([text.tokens for text in part])
            _fill_in(part, computed.scores)
        except Exception as error:
            run.failures += 1
            metrics.ENGINE_FAILURES.labels("computation").inc()
            if len(part) > 1:
                parts += _halves(part)
                continue
            if not works:
                run.broken = _failure_of(check, batch.model)
                if run.broken is not None:
                    return run
            # The next text that fails is not blamed before something has worked again.
            works = False
            log.error("the engine failed on a text", exc_info=error)
            metrics.ENGINE_FAILURES.labels("text").inc()
            run.failed.append(part[0].job)
        else:
            works = True
            run.tokens += computed.tokens
    return run


def _unanswered(part: Sequence[QueuedText], run: BatchRun) -> Sequence[QueuedText]:
    """The texts whose answers somebody waits for."""
    return [text for text in part if not text.job.ended and text.job not in run.failed]


def _halves(part: Sequence[QueuedText]) -> list[Sequence[QueuedText]]:
    """Two halves, the first one last; texts of one job are side by side."""
    by_job = sorted(part, key=lambda text: (id(text.job), text.index))
    middle = len(by_job) // 2
    return [by_job[middle:], by_job[:middle]]


def _failure_of(check: Callable[[LoadedModel], None], model: LoadedModel) -> Exception | None:
    try:
        check(model)
    except Exception as error:
        return error
    return None


def _fill_in(texts: Sequence[QueuedText], scores: FloatArray) -> None:
    """Give every text its part of `scores` [texts, labels]."""
    # For the whole batch at once: for a single text each of these calls would take as long.
    best, top = scores.argmax(axis=1).tolist(), scores.max(axis=1).tolist()
    for text, column, score, row in zip(texts, best, top, scores, strict=True):
        text.job.fill_in(text.index, column, score, row)
