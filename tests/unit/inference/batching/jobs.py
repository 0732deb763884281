"""For the tests of the queue: jobs whose tokens are made up."""

import asyncio

from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.job import Batch, Job, Lane, QueuedText
from inference_svc.batching.text_queue import MANY_TEXTS, TextQueue
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.text_tokenizer import Tokens

LIMITS = BatchLimits(tokens=256, texts=8)


def make_job(
    loop: asyncio.AbstractEventLoop,
    model: LoadedModel,
    texts: int = 1,
    lane: Lane = Lane.INTERACTIVE,
    deadline: float | None = None,
) -> Job:
    return Job(model, ["good"] * texts, lane, deadline, loop.create_future())


def submit(queue: TextQueue, job: Job, length: int = 3) -> Job:
    """Admit a job and put its tokens, `length` for each text."""
    queue.admit(job)
    queue.announce()
    jobs = queue.many_untokenized() if len(job.texts) >= MANY_TEXTS else queue.next_work()
    assert jobs == [job]
    put(queue, job, length)
    return job


def put(queue: TextQueue, job: Job, length: int = 3) -> None:
    queue.put([(job, [Tokens([1] * length, truncated=False)] * len(job.texts))])


def next_batch(queue: TextQueue) -> Batch:
    batch = queue.next_work()
    assert isinstance(batch, Batch)
    return batch


def queued(job: Job, lengths: list[int]) -> list[QueuedText]:
    """Texts of these lengths that wait in this order."""
    return [
        QueuedText(job, i, float(i), Tokens([1] * length, truncated=False), length)
        for i, length in enumerate(lengths)
    ]
