"""How fast the engine has been with each model lately."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from weakref import finalize

from inference_svc.model.loaded_model import LoadedModel

# Weight that earlier batches keep at each new one.
_MEMORY = 0.9
# Assumed of a model until its first batch; it weighs next to nothing afterwards.
_GUESS_PER_SECOND = 10_000


@dataclass
class _Recent:
    """Recent batches of one model, the latest with the most weight."""

    cost: float = 1.0
    seconds: float = 1 / _GUESS_PER_SECOND
    batches: float = 0.0


class Throughput:
    """Recent cost (expected tokens) a second of each model.

    A slow model says nothing about a fast one. A model is measured as long as it is in memory, so
    there are no more measurements than loaded versions.
    """

    def __init__(self) -> None:
        # By the id of the model, since looking up a weak reference takes a microsecond.
        self._recent: dict[int, _Recent] = {}

    def observe(self, model: LoadedModel, cost: int, seconds: float) -> None:
        """Add one batch."""
        recent = self._recent.get(id(model))
        if recent is None:
            recent = self._recent[id(model)] = _Recent()
            finalize(model, self._recent.pop, id(model)).atexit = False
        recent.cost = _MEMORY * recent.cost + cost
        recent.seconds = _MEMORY * recent.seconds + seconds
        recent.batches = _MEMORY * recent.batches + 1

    def seconds(self, model: LoadedModel, cost: float) -> float:
        """Time that work of this cost takes with this model."""
        recent = self._recent.get(id(model))
        return cost * recent.seconds / recent.cost if recent else cost / _GUESS_PER_SECOND

    def seconds_of_all(self, work: Iterable[tuple[LoadedModel, float]]) -> float:
        """Time that work of several models takes, given as pairs of model and cost."""
        return sum(self.seconds(model, cost) for model, cost in work)

    def batch_seconds(self, model: LoadedModel) -> float:
        """Time that one batch of this model takes; 0 before its first one."""
        recent = self._recent.get(id(model))
        return recent.seconds / recent.batches if recent and recent.batches else 0.0

    def ranks(self, model: LoadedModel, arrived: float, costs: Sequence[int]) -> list[float]:
        """Times at which texts of these costs begin, one after the other from `arrived` on."""
        before = accumulate(costs[:-1], initial=0)
        return [arrived + self.seconds(model, cost) for cost in before]
