"""Whether a job is taken in: room in its lane and for its model, and a deadline that can be met."""

from collections import Counter
from collections.abc import Sequence

from inference_svc.batching.job import Job, Lane, QueuedText
from inference_svc.batching.throughput import Throughput
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import DeadlineTooShort, Exhausted

# While interactive and bulk texts both wait, bulk gets one part in this many of the engine's time.
BULK_TURN = 4
BULK_SHARE = 0.5  # of the queue
BACKGROUND_SHARE = 0.125  # of the queue
# A model takes in no more while it holds more than this many times the room that is left. So there
# is always room for the other models; a single model gets eight ninths of the queue.
MODEL_TIMES_FREE = 8
SHORTEST_RETRY_S = 0.05
LONGEST_RETRY_S = 30.0
# Less than any answer takes. Envoy rounds shorter deadlines up to this.
NO_TIME_S = 0.001


class Admission:
    """Counts the texts that wait or run, and refuses jobs that do not fit among them.

    Belongs to the queue, which calls every method with its lock held.
    """

    def __init__(self, max_texts: int, throughput: Throughput) -> None:
        self._room = {
            Lane.INTERACTIVE: max_texts,
            Lane.BULK: int(max_texts * BULK_SHARE),
            Lane.BACKGROUND: int(max_texts * BACKGROUND_SHARE),
        }
        self._throughput = throughput
        self.held = dict.fromkeys(Lane, 0)
        """Texts of each lane that were admitted and have neither been computed nor left."""
        self.held_of: Counter[LoadedModel] = Counter()
        """These texts by model, of all lanes; models without any are left out."""
        self.work: dict[Lane, Counter[LoadedModel]] = {lane: Counter() for lane in Lane}
        """Cost of these texts by lane and model; models without any are left out."""

    @property
    def texts(self) -> int:
        """Texts of all lanes that wait or run."""
        return sum(self.held.values())

    def admit(self, job: Job, waiting: Sequence[QueuedText]) -> None:
        """Count a job in; `waiting` are the tokenised texts of its lane and its model.

        Raises DeadlineTooShort when the job's deadline has passed already, and Exhausted when the
        job does not fit, or would wait beyond its deadline.
        """
        if job.deadline is not None and job.deadline - job.arrived < NO_TIME_S:
            raise DeadlineTooShort("the call's deadline passed before the call came to its turn")
        self._check_room(job)
        cost = sum(job.costs)
        if job.deadline is not None:
            self._check_deadline(job, cost, job.deadline - job.arrived, waiting)
        self.held[job.lane] += job.left
        self.held_of[job.model] += job.left
        self.work[job.lane][job.model] += cost

    def release(self, job: Job, texts: int, cost: int) -> None:
        """Count texts of a job out: they were computed, or left."""
        job.left -= texts
        self.held[job.lane] -= texts
        _subtract(self.held_of, job.model, texts)
        _subtract(self.work[job.lane], job.model, cost)

    def _check_room(self, job: Job) -> None:
        held = self.texts
        free = self._room[Lane.INTERACTIVE] - held
        lane_held = held if job.lane is Lane.INTERACTIVE else self.held[job.lane]
        missing = job.left - min(free, self._room[job.lane] - lane_held)
        if missing > 0:
            work = (pair for lane in Lane for pair in self.work[lane].items())
            drained_s = self._throughput.seconds_of_all(work) * missing / max(held, 1)
            raise Exhausted(f"the queue is full: {held:,} texts wait", _retry_s(drained_s))
        own = self.held_of[job.model]
        if own > MODEL_TIMES_FREE * free:
            raise Exhausted(
                f"the queue has no more room for this model, of which {own:,} texts wait: what is "
                "left is for other models",
                _retry_s(self._own_seconds(job.model) * job.left / own),
            )

    def _own_seconds(self, model: LoadedModel) -> float:
        return sum(self._throughput.seconds(model, self.work[lane][model]) for lane in Lane)

    def _check_deadline(
        self, job: Job, cost: int, left_s: float, waiting: Sequence[QueuedText]
    ) -> None:
        throughput, model, work = self._throughput, job.model, self.work[job.lane]
        own_s = throughput.seconds(model, work[model] + cost)
        others = [(other, amount) for other, amount in work.items() if other is not model]
        if own_s + (throughput.seconds_of_all(others) if others else 0.0) <= left_s:
            return  # in time even behind everything
        last = throughput.ranks(model, job.arrived, job.costs)[-1]
        behind = sum(text.cost for text in waiting if text.rank > last)
        own_s -= throughput.seconds(model, behind)
        # While this model's texts are computed, each other one gets as much time, and a batch more.
        wait_s = own_s + sum(
            min(throughput.seconds(other, amount), own_s + throughput.batch_seconds(other))
            for other, amount in others
        )
        if job.lane is Lane.INTERACTIVE and self.work[Lane.BULK]:
            wait_s += self._bulk_wait_s(wait_s)
        if wait_s > left_s:
            raise Exhausted(
                f"the wait would be {wait_s:.2f} s, but the deadline is in {left_s:.2f} s",
                _retry_s(wait_s - left_s),
            )

    def _bulk_wait_s(self, interactive_s: float) -> float:
        """Time that bulk texts take from interactive ones which are computed in this time."""
        bulk = self.work[Lane.BULK]
        share_s = interactive_s / (BULK_TURN - 1) + max(map(self._throughput.batch_seconds, bulk))
        return min(self._throughput.seconds_of_all(bulk.items()), share_s)


def _subtract(counts: Counter[LoadedModel], model: LoadedModel, amount: int) -> None:
    left = counts[model] - amount
    if left:
        counts[model] = left
    else:
        # An entry would keep the model in memory.
        counts.pop(model, None)


def _retry_s(seconds: float) -> float:
    return min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
