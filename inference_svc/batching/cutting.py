"""Which of the waiting texts make the next batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference_svc.batching.job import Batch, QueuedText
from inference_svc.model.shapes import full_texts, padded_tokens

# A further batch costs about as much as computing this many tokens (measured: MiniLM, one core).
BATCH_OVERHEAD_TOKENS = 128
# Waiting texts among which those of like length are looked for, in largest batches.
LOOK_AHEAD = 4


@dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch; a text longer than `tokens` makes a batch of its own."""

    tokens: int
    texts: int


def cut_batch(waiting: Sequence[QueuedText], limits: BatchLimits) -> Batch:
    """Return the first waiting text with others.

    `waiting` is not empty, of one model, and ordered by rank. A model that packs takes the texts in
    that order. A model that pads takes those nearest in length, as long as the padding costs less
    than a further batch would.
    """
    first = waiting[0]
    if first.job.model.packs:
        return _cut_in_order(waiting, limits)
    nearby = sorted(waiting[: LOOK_AHEAD * limits.texts], key=lambda text: text.length)
    low = high = nearby.index(first)
    used = longest = first.length
    order = [first]
    while len(order) < limits.texts:
        options = []
        if low > 0:
            options.append((longest - nearby[low - 1].length, low - 1))
        if high + 1 < len(nearby):
            growth = nearby[high + 1].length - longest
            options.append((growth * len(order), high + 1))
        if not options:
            break
        chosen = min(options)[1]
        text = nearby[chosen]
        longest = max(longest, text.length)
        used += text.length
        area = (len(order) + 1) * padded_tokens(longest, text.job.model.spec.max_tokens)
        if area > limits.tokens or (len(order) + 1) * longest - used > BATCH_OVERHEAD_TOKENS:
            break
        order.append(text)
        low, high = min(low, chosen), max(high, chosen)
    return Batch(tuple(order[: full_texts(len(order))]))


def _cut_in_order(waiting: Sequence[QueuedText], limits: BatchLimits) -> Batch:
    order: list[QueuedText] = []
    tokens = 0
    for text in waiting:
        tokens += text.length
        if order and (tokens > limits.tokens or len(order) == limits.texts):
            break
        order.append(text)
    return Batch(tuple(order))
