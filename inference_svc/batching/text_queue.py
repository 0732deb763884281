"""The bounded queue between the event loop and the two threads that serve it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from weakref import WeakKeyDictionary

from inference_svc.batching.admission import BULK_TURN, Admission
from inference_svc.batching.cutting import BatchLimits, cut_batch
from inference_svc.batching.fair_share import FairShare
from inference_svc.batching.job import Batch, Job, Lane, QueuedText
from inference_svc.batching.throughput import Throughput
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.text_tokenizer import Tokens
from service_kit.errors import Unavailable

# From this many untokenised texts on, the tokenize thread takes them, beside the batch that is
# computed. Fewer wait until the compute thread is free: a text takes 33 microseconds, and waking
# the other thread costs as much again and takes the processor from the batch.
MANY_TEXTS = 8
# Jobs are handed out for tokenising until they have this many texts together.
MOST_TEXTS = 64


class TextQueue:
    """Texts that wait or run, at most `max_texts`. Every method may be called by any thread.

    A job waits untokenised at first; its tokens are put where it waits. A tokenised text's rank is
    the time at which its turn would come if its request had been computed alone since it arrived.
    So a request of a thousand texts does not hold up those that come after it. Models whose texts
    wait get equal parts of the engine's time, so no model holds up another one.
    """

    def __init__(
        self,
        max_texts: int,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._throughput = Throughput()
        self.admission = Admission(max_texts, self._throughput)
        # One lock guards everything here. Each of the two threads waits for a condition of its
        # own, so that a text wakes the thread that is to tokenise it and not the other one.
        self._lock = threading.Lock()
        self._for_compute = threading.Condition(self._lock)
        self._for_tokenize = threading.Condition(self._lock)
        self._arrived: list[Job] = []
        self._untokenized: dict[LoadedModel, deque[Job]] = {}
        self._untokenized_texts = 0
        self._waiting: dict[Lane, dict[LoadedModel, list[QueuedText]]] = {lane: {} for lane in Lane}
        self._lanes: FairShare[Lane] = FairShare()
        # Models by their ids, which do not keep them in memory.
        self._models: dict[Lane, FairShare[int]] = {lane: FairShare() for lane in Lane}
        self._charged: dict[Batch, float] = {}
        self._jobs: dict[LoadedModel, set[Job]] = {}
        self._refused: WeakKeyDictionary[LoadedModel, str] = WeakKeyDictionary()
        self._closed = ""

    def __len__(self) -> int:
        """Texts that wait or run."""
        return self.admission.texts

    def tokenized_texts(self, lane: Lane) -> int:
        """Tokenised texts of a lane that wait."""
        return sum(map(len, self._waiting[lane].values()))

    def admit(self, job: Job) -> None:
        """Take a job in; the threads see it after the next `announce`.

        Raises Exhausted when the job does not fit, or would wait beyond its deadline, and
        Unavailable when the queue is closed or refuses the model.
        """
        with self._lock:
            refusal = self._closed
            if self._refused:
                refusal = refusal or self._refused.get(job.model, "")
            if refusal:
                raise Unavailable(refusal)
            job.arrived = self._clock()
            self.admission.admit(job, self._waiting[job.lane].get(job.model, ()))
            self._jobs.setdefault(job.model, set()).add(job)
            self._arrived.append(job)

    def announce(self) -> None:
        """Have the jobs tokenised that were admitted since the last call."""
        with self._lock:
            self._hand_over()
            if self._many:
                self._for_tokenize.notify()
            else:
                self._for_compute.notify()

    def _hand_over(self) -> None:
        for job in self._arrived:
            self._untokenized.setdefault(job.model, deque()).append(job)
            self._untokenized_texts += len(job.texts)
        self._arrived.clear()

    def next_work(self) -> Batch | list[Job] | None:
        """Wait for work of the compute thread.

        Returns jobs to tokenise when few texts are untokenised, else the next batch; None when the
        queue is closed and empty. `put` follows every call that returned jobs.
        """
        with self._lock:
            while True:
                if self._untokenized and not self._many:
                    return self._take_untokenized()
                if any(self._waiting.values()):
                    return self._take_batch()
                if self._closed and not len(self):
                    return None
                self._for_compute.wait()

    def many_untokenized(self) -> list[Job] | None:
        """Wait for work of the tokenize thread.

        Returns jobs to tokenise when many texts are untokenised; None when the queue is closed.
        `put` follows every call that returned jobs.
        """
        with self._lock:
            while not (self._many or self._closed):
                self._for_tokenize.wait()
            return None if self._closed else self._take_untokenized()

    @property
    def _many(self) -> bool:
        """Whether the tokenize thread is to take the untokenised texts."""
        return self._untokenized_texts >= MANY_TEXTS and not self._closed

    def _take_untokenized(self) -> list[Job]:
        """Jobs of the model whose turn it is; the models take turns."""
        model = next(iter(self._untokenized))
        waiting = self._untokenized.pop(model)
        jobs: list[Job] = []
        texts = 0
        while waiting and texts < MOST_TEXTS:
            jobs.append(waiting.popleft())
            texts += len(jobs[-1].texts)
        if waiting:
            self._untokenized[model] = waiting  # behind the others
        self._untokenized_texts -= texts
        return jobs

    def put(self, tokenized: Sequence[tuple[Job, list[Tokens]]]) -> None:
        """Queue the texts of jobs with their tokens; jobs that have ended are left out."""
        with self._lock:
            for job, tokens in tokenized:
                if job.ended:
                    continue
                job.tokens = tokens
                ranks = self._throughput.ranks(job.model, job.arrived, job.costs)
                parts = zip(ranks, tokens, job.costs, strict=True)
                waiting = self._waiting[job.lane].setdefault(job.model, [])
                waiting.extend(QueuedText(job, index, *part) for index, part in enumerate(parts))
                waiting.sort(key=lambda text: text.rank)
            self._for_compute.notify()

    def _take_batch(self) -> Batch:
        lane = self._next_lane()
        models = self._waiting[lane]
        model = self._next_model(lane)
        batch = cut_batch(models[model], self._limits)
        self._remove(lane, model, set(batch.texts))
        cost = sum(text.cost for text in batch.texts)
        self._charged[batch] = self._throughput.seconds(model, cost)
        self._charge(batch, self._charged[batch])
        return batch

    def _next_model(self, lane: Lane) -> LoadedModel:
        models = {id(model): (texts[0].rank, model) for model, texts in self._waiting[lane].items()}
        # Among models with equal claims, the one goes first whose text is due first.
        order = sorted(models, key=lambda key: models[key][0]) if len(models) > 1 else [*models]
        return models[self._models[lane].choose(order)][1]

    def _next_lane(self) -> Lane:
        lanes = [lane for lane in (Lane.INTERACTIVE, Lane.BULK) if self._waiting[lane]]
        return self._lanes.choose(lanes) if lanes else Lane.BACKGROUND

    def _charge(self, batch: Batch, seconds: float) -> None:
        """Charge lane and model of a batch with seconds of the engine's time."""
        lane = batch.texts[0].job.lane
        self._models[lane].charge(id(batch.model), seconds)
        self._lanes.charge(lane, seconds / (BULK_TURN - 1 if lane is Lane.INTERACTIVE else 1))

    def _remove(self, lane: Lane, model: LoadedModel, texts: Collection[QueuedText]) -> None:
        left = [text for text in self._waiting[lane].pop(model, ()) if text not in texts]
        if left:
            self._waiting[lane][model] = left

    def complete(self, batch: Batch, seconds: float, failed: bool = False) -> list[Job]:
        """Account for a batch that took `seconds`; returns the jobs that have now ended.

        A batch that `failed` at least once says nothing about the model's speed.
        """
        ended = []
        with self._lock:
            self._charge(batch, seconds - self._charged.pop(batch))
            if not failed:
                cost = sum(text.cost for text in batch.texts)
                self._throughput.observe(batch.model, cost, seconds)
            for text in batch.texts:
                job = text.job
                self.admission.release(job, 1, text.cost)
                if job.left == 0 and not job.ended:
                    self._end(job)
                    ended.append(job)
        return ended

    def withdraw(self, job: Job) -> None:
        """End a job early: its waiting texts leave, and nobody awaits those that run."""
        with self._lock:
            self._withdraw(job)

    def _withdraw(self, job: Job) -> None:
        if job.ended:
            return
        self._end(job)
        if job.tokens:
            waiting = self._waiting[job.lane].get(job.model, ())
            own = {text for text in waiting if text.job is job}
            self._remove(job.lane, job.model, own)
            self.admission.release(job, len(own), sum(text.cost for text in own))
        else:
            self.admission.release(job, job.left, sum(job.costs))
        if self._closed:
            self._for_compute.notify()

    def _end(self, job: Job) -> None:
        job.ended = True
        jobs = self._jobs[job.model]
        jobs.discard(job)
        if not jobs:
            del self._jobs[job.model]

    def refuse(self, model: LoadedModel, why: str) -> list[Job]:
        """Take in nothing for a model until `accept`; returns its jobs, which have now ended."""
        with self._lock:
            self._refused[model] = why
            return self._withdraw_all(model)

    def accept(self, model: LoadedModel) -> None:
        """Take in jobs for a model again."""
        with self._lock:
            self._refused.pop(model, None)

    def refuse_all(self, why: str) -> list[Job]:
        """Take in nothing any more; returns all jobs, which have now ended."""
        with self._lock:
            self._close(why)
            return [job for model in tuple(self._jobs) for job in self._withdraw_all(model)]

    def _withdraw_all(self, model: LoadedModel) -> list[Job]:
        for lane in Lane:
            for text in self._waiting[lane].pop(model, ()):
                self.admission.release(text.job, 1, text.cost)
        jobs = list(self._jobs.pop(model, ()))
        for job in jobs:
            job.ended = True
            if not job.tokens:
                self.admission.release(job, job.left, sum(job.costs))
        return jobs

    def close(self) -> None:
        """Take nothing more in; the compute thread gets what waits, and then None."""
        with self._lock:
            self._close("this replica is shutting down")

    def _close(self, why: str) -> None:
        self._closed = self._closed or why
        self._hand_over()
        self._for_compute.notify()
        self._for_tokenize.notify()
