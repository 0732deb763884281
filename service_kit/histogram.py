"""Histograms of durations, all with the same buckets, so that they can be added up.

A histogram is a sequence of BUCKETS counts. Bucket 0 counts durations up to LEAST_MS; bucket i
counts those above LEAST_MS * 2^((i-1)/4) and up to LEAST_MS * 2^(i/4), so that bounds double every
four buckets; the last bucket counts everything above 56 s.
"""

import math
from collections.abc import Sequence

LEAST_MS = 0.25
PER_DOUBLING = 4
BUCKETS = 73


def bucket_of(ms: float) -> int:
    """Return the index of the bucket that counts a duration of `ms` milliseconds."""
    if ms <= LEAST_MS:
        return 0
    return min(math.ceil(PER_DOUBLING * math.log2(ms / LEAST_MS)), BUCKETS - 1)


def upper_ms(bucket: int) -> float:
    """Return the longest duration that a bucket counts, milliseconds; the last one has no bound."""
    return LEAST_MS * math.pow(2, bucket / PER_DOUBLING)


def quantile_bucket(counts: Sequence[int], share: float) -> int:
    """Return the index of the bucket with the `share` quantile (0..1); 0 when all counts are 0."""
    wanted = share * sum(counts)
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return bucket
    return 0


def quantile_ms(counts: Sequence[int], share: float) -> float:
    """Return the `share` quantile (0..1), milliseconds, at most 19 % too high; 0 without counts."""
    return upper_ms(quantile_bucket(counts, share)) if any(counts) else 0.0
