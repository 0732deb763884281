"""Numbers of key buckets are added up over replicas and taken apart over time."""

from control_plane.fleet.slot_stats import KeyBucket, SlotStats

EARLY = SlotStats((KeyBucket(1, 0, (1,), (0, 1), {"a": 1, "b": 0}, 1, 0),), 2)
LATE = SlotStats(
    (
        KeyBucket(3, 1, (1, 2), (0, 3), {"a": 2, "b": 3}, 4, 1),
        KeyBucket(1, 0, (0, 0, 1), (1,), {"c": 1}),
    ),
    5,
)


def test_a_difference_is_what_came_in_between() -> None:
    grown = LATE - EARLY
    assert grown.buckets[0] == KeyBucket(2, 1, (0, 2), (0, 2), {"a": 1, "b": 3}, 3, 1)
    assert grown.buckets[1] == LATE.buckets[1]
    assert grown.not_compared == 3
    assert (EARLY + grown).total == LATE.total


def test_a_total_is_the_sum_of_all_buckets() -> None:
    assert LATE.total == KeyBucket(4, 1, (1, 2, 1), (1, 3), {"a": 2, "b": 3, "c": 1}, 4, 1)
    assert LATE.total.texts == 6
    assert SlotStats().total == KeyBucket()


def test_versions_of_other_labels_can_be_added() -> None:
    one, other = KeyBucket(labels={"a": 1, "b": 2}), KeyBucket(labels={"b": 1, "c": 4})
    assert one.plus(other).labels == {"a": 1, "b": 3, "c": 4}
    assert one.plus(other, -1).labels == {"a": 1, "b": 1, "c": -4}
