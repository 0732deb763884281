"""Whether a job is taken in: room in its lane, and a deadline that can be met."""

from collections.abc import Mapping, Sequence

from inference_svc.batching.job import Job, Lane, QueuedText
from inference_svc.batching.throughput import Throughput
from service_kit.errors import DeadlineTooShort, Exhausted

# While interactive and bulk texts both wait, one batch of this many is for bulk.
BULK_TURN = 4
BULK_SHARE = 0.5  # of the queue
BACKGROUND_SHARE = 0.125  # of the queue
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
        self.work = dict.fromkeys(Lane, 0)
        """Cost of these texts."""

    @property
    def texts(self) -> int:
        """Texts of all lanes that wait or run."""
        return sum(self.held.values())

    def admit(self, job: Job, waiting: Mapping[Lane, Sequence[QueuedText]]) -> None:
        """Count a job in; `waiting` are the tokenised texts of each lane, ordered by rank.

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
        self.work[job.lane] += cost

    def release(self, job: Job, texts: int, cost: int) -> None:
        """Count texts of a job out: they were computed, or left."""
        job.left -= texts
        self.held[job.lane] -= texts
        self.work[job.lane] -= cost

    def _check_room(self, job: Job) -> None:
        held = self.texts
        lane_held = held if job.lane is Lane.INTERACTIVE else self.held[job.lane]
        free = self._room[job.lane] - lane_held
        missing = job.left - min(free, self._room[Lane.INTERACTIVE] - held)
        if missing > 0:
            work = sum(self.work.values()) * missing / max(held, 1)
            raise Exhausted(
                f"the queue is full: {held:,} texts wait", _retry_s(self._throughput.seconds(work))
            )

    def _check_deadline(
        self, job: Job, cost: int, left_s: float, waiting: Mapping[Lane, Sequence[QueuedText]]
    ) -> None:
        work = self.work[job.lane] + cost
        if self._throughput.seconds(work) <= left_s:
            return  # in time even behind everything
        last = self._throughput.ranks(job.arrived, job.costs)[-1]
        behind = sum(text.cost for text in waiting[job.lane] if text.rank > last)
        share = BULK_TURN / (BULK_TURN - 1) if waiting[Lane.BULK] else 1.0
        wait_s = self._throughput.seconds(work - behind) * share
        if wait_s > left_s:
            raise Exhausted(
                f"the wait would be {wait_s:.2f} s, but the deadline is in {left_s:.2f} s",
                _retry_s(wait_s - left_s),
            )


def _retry_s(seconds: float) -> float:
    return min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
