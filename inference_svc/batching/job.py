"""One request on its way through the batcher."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inference_svc.engines.base import FloatArray
from inference_svc.loaded_model import LoadedModel, Tokens
from inference_svc.shapes import padded_texts, padded_tokens

# Enough to guess the work of a text before it is tokenised.
CHARACTERS_PER_TOKEN = 4
SPECIAL_TOKENS = 2


class Lane(enum.Enum):
    """Who waits for the answer: somebody, a bulk job, or nobody."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
    BACKGROUND = "background"


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
    """Probabilities [texts, labels] and which texts were cut, in the order of the request."""

    scores: FloatArray
    truncated: tuple[bool, ...]
    timing: Timing

    @cached_property
    def best(self) -> NDArray[np.int64]:
        """Column of the most probable label [texts]."""
        best: NDArray[np.int64] = self.scores.argmax(axis=1)
        return best


class Job:
    """The texts of one request; `answer` belongs to the event loop, the rest to the queue."""

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
        self.scores: FloatArray = np.empty((len(texts), len(model.spec.labels)), np.float32)
        self.timing = Timing()

    def classified(self) -> Classified:
        """The answer, once every text is computed."""
        return Classified(
            self.scores, tuple(tokens.truncated for tokens in self.tokens), self.timing
        )


def _cost(text: str, max_tokens: int) -> int:
    """Tokens to expect."""
    return min(SPECIAL_TOKENS + len(text) // CHARACTERS_PER_TOKEN, max_tokens)


@dataclass(frozen=True, eq=False, slots=True)
class QueuedText:
    """One tokenised text that waits. `rank` is the second at which its turn is due."""

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
        """The model of all of them."""
        return self.texts[0].job.model

    @property
    def pad_waste(self) -> float:
        """Share of the computed tokens that is padding, 0..1."""
        lengths = [text.length for text in self.texts]
        tokens = padded_tokens(max(lengths), self.model.spec.max_tokens)
        return 1 - sum(lengths) / (tokens * padded_texts(len(lengths)))
