"""Which of the waiting texts make the next batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference_svc.batching.job import Batch, QueuedText

# One more batch costs about as much as computing so many tokens (measured: MiniLM, one core).
BATCH_OVERHEAD_TOKENS = 128
# Texts that are looked at, as a multiple of the largest batch.
LOOK_AHEAD = 4


@dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch; a single text longer than `tokens` makes a batch of its own."""

    tokens: int
    texts: int


def cut_batch(waiting: Sequence[QueuedText], limits: BatchLimits) -> Batch:
    """Return the first waiting text with those nearest to it in length.

    `waiting` is not empty and ordered by rank. Texts are added while the padding stays cheaper
    than one more batch would be, and only those of the same model.
    """
    first = waiting[0]
    nearby = [
        text for text in waiting[: LOOK_AHEAD * limits.texts] if text.job.model is first.job.model
    ]
    nearby.sort(key=lambda text: text.length)
    low = high = nearby.index(first)
    used = longest = first.length
    while high - low + 1 < limits.texts:
        options = []
        if low > 0:
            options.append((longest - nearby[low - 1].length, low - 1))
        if high + 1 < len(nearby):
            growth = nearby[high + 1].length - longest
            options.append((growth * (high - low + 1), high + 1))
        if not options:
            break
        _, chosen = min(options)
        new_longest = max(longest, nearby[chosen].length)
        padded = new_longest * (high - low + 2)
        used += nearby[chosen].length
        if padded > limits.tokens or padded - used > BATCH_OVERHEAD_TOKENS:
            break
        longest = new_longest
        low, high = min(low, chosen), max(high, chosen)
    return Batch(tuple(nearby[low : high + 1]))
