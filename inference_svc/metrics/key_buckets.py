"""Counts of the requests that Envoy's split dealt to a version, by a hash of their keys.

Envoy deals by x-mesh-key, so one heavy caller's requests all go to one version. A judge that took
them for independent would take that caller for a difference between the versions. So it compares
these entries, in each of which all requests of a key are together.
"""

import random
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat

from service_kit.histogram import BUCKETS

KEY_BUCKETS = 64
# Labels that are told apart; all labels after the first 127 of a larger model share the last entry.
MAX_LABELS = 128
OTHER_LABELS = ""
# Makes the hash independent of the one by which Envoy deals.
_HASH_KEY = b"mesh key bucket"


def key_bucket(key: str | bytes | None) -> int:
    """Return the entry that counts requests with this key: the same one on every replica.

    A request without a key was dealt on its own, so it gets an entry at random.
    """
    if key is None:
        return random.getrandbits(6)
    data = key.encode(errors="surrogateescape") if isinstance(key, str) else key
    return blake2b(data, digest_size=1, key=_HASH_KEY).digest()[0] % KEY_BUCKETS


class KeyBucket:
    """Counts of one entry; see mesh.v1.KeyBucket."""

    __slots__ = ("agreed", "answered", "compute", "disagreed", "failed", "labels", "latency")

    def __init__(self, labels: int) -> None:
        self.answered = self.failed = self.agreed = self.disagreed = 0
        self.latency = array("Q", repeat(0, BUCKETS))
        self.compute = array("Q", repeat(0, BUCKETS))
        self.labels = array("Q", repeat(0, labels))


class KeyBuckets:
    """The entries of one served version: at most 64 times 2.2 kB, and nothing before the first
    dealt request."""

    def __init__(self, label_names: Sequence[str]) -> None:
        names = sorted(label_names)
        told_apart = names if len(names) <= MAX_LABELS else [*names[: MAX_LABELS - 1], OTHER_LABELS]
        self.label_names = tuple(told_apart)
        place = {name: index for index, name in enumerate(told_apart)}
        self._places = tuple(place.get(name, len(told_apart) - 1) for name in label_names)
        self.all: tuple[KeyBucket, ...] = ()

    def __getitem__(self, bucket: int) -> KeyBucket:
        if not self.all:
            self.all = tuple(KeyBucket(len(self.label_names)) for _ in range(KEY_BUCKETS))
        return self.all[bucket]

    def count_answer(self, bucket: int, latency: int, compute: int, labels: Sequence[int]) -> None:
        """Add a request; `labels` holds an index into the version's labels for each text."""
        entry, places = self[bucket], self._places
        entry.answered += 1
        entry.latency[latency] += 1
        entry.compute[compute] += 1
        for label in labels:
            entry.labels[places[label]] += 1
