"""One request on its way through the batcher."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference_svc.engines.base import FloatArray
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.text_tokenizer import Tokens

# For guessing the tokens of a text before it is tokenised.
CHARACTERS_PER_TOKEN = 4
SPECIAL_TOKENS = 2
_NONE: FloatArray = np.empty(0, np.float32)


class Lane(enum.Enum):
    """Who waits for the answer: a caller, a stream of many requests, or nobody."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
    BACKGROUND = "background"

    # The queue looks lanes up twenty times a call, and an enum hashes its name in Python.
    __hash__ = object.__hash__


@dataclass
class Timing:
    """Where the time of one request went; see mesh.v1.Timing."""

    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    compute_ms: float = 0.0
    batch_texts: int = 0
    pad_waste: float = 0.0


@dataclass(frozen=True)
class Classified:
    """The answers to the texts of a request, in their order."""

    best: Sequence[int]
    """Column of the most probable label of each text."""

    top: Sequence[float]
    """Probability of that label."""

    rows: Sequence[FloatArray]
    """Probabilities of each text [labels]."""

    truncated: Sequence[bool]
    """Whether each text was cut because it is too long."""

    timing: Timing

    @cached_property
    def scores(self) -> FloatArray:
        """Probabilities [texts, labels]."""
        return np.stack(self.rows)


class Job:
    """The texts of one request.

    The event loop uses `answer`; the queue changes the other fields, with its lock held.
    """

    def __init__(
        self,
        model: LoadedModel,
        texts: Sequence[str],
        lane: Lane,
        deadline: float | None,
        answer: asyncio.Future[Classified],
    ) -> None:
        self.model = model
        self.texts = texts
        self.lane = lane
        self.deadline = deadline
        self.answer = answer
        self.arrived = 0.0
        self.costs = [_cost(text, model.spec.max_tokens) for text in texts]
        self.left = len(texts)
        self.ended = False
        self.tokens: list[Tokens] = []
        self.timing = Timing()
        self._best = [0] * len(texts)
        self._top = [0.0] * len(texts)
        self._rows: list[FloatArray] = [_NONE] * len(texts)

    def fill_in(self, index: int, best: int, top: float, row: FloatArray) -> None:
        """Enter the answer to a text: its label's column and probability, and all probabilities."""
        self._best[index] = best
        self._top[index] = top
        self._rows[index] = row

    def classified(self) -> Classified:
        """The answer to the request; every text must have been computed."""
        truncated = [tokens.truncated for tokens in self.tokens]
        return Classified(self._best, self._top, self._rows, truncated, self.timing)


def _cost(text: str, max_tokens: int) -> int:
    """Tokens that a text is expected to have."""
    return min(SPECIAL_TOKENS + len(text) // CHARACTERS_PER_TOKEN, max_tokens)


@dataclass(frozen=True, eq=False, slots=True)
class QueuedText:
    """One tokenised text that waits; see TextQueue.

    `rank` is the time at which its turn is due, in seconds of the queue's clock; `cost` is its
    expected number of tokens.
    """

    job: Job
    index: int
    rank: float
    tokens: Tokens
    cost: int

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.tokens.ids)


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of one model that are computed together."""

    texts: tuple[QueuedText, ...]

    @property
    def model(self) -> LoadedModel:
        """The model of these texts."""
        return self.texts[0].job.model

    def pad_waste(self, computed_tokens: int) -> float:
        """Share of the computed tokens that is padding, 0..1."""
        return 1 - sum(text.length for text in self.texts) / computed_tokens
