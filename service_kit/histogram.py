"""Histograms of durations whose buckets are the same everywhere: four a doubling, from 0.25 ms.

Entry i of a histogram counts durations of LEAST_MS * 2^((i-1)/4) to LEAST_MS * 2^(i/4), entry 0
everything below, the last one everything above a minute.
"""

import math
from collections.abc import Sequence

LEAST_MS = 0.25
PER_DOUBLING = 4
BUCKETS = 73  # the last begins at 56 s


def bucket_of(ms: float) -> int:
    """Entry that counts a duration, milliseconds."""
    if ms <= LEAST_MS:
        return 0
    return min(math.ceil(PER_DOUBLING * math.log2(ms / LEAST_MS)), BUCKETS - 1)


def upper_ms(bucket: int) -> float:
    """Longest duration that an entry counts, milliseconds."""
    return LEAST_MS * math.pow(2, bucket / PER_DOUBLING)


def quantile_bucket(counts: Sequence[int], share: float) -> int:
    """Entry with the duration below which `share` (0..1) of all lie; 0 when there are none."""
    wanted = share * sum(counts)
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return bucket
    return 0


def quantile_ms(counts: Sequence[int], share: float) -> float:
    """Duration below which `share` (0..1) of all lie, to 19 %, milliseconds; 0 when none are."""
    return upper_ms(quantile_bucket(counts, share)) if any(counts) else 0.0
