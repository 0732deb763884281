"""Which versions of a model are kept."""

import pytest

from service_kit.model_registry.expired_versions import expired
from service_kit.model_registry.records import TAG_JOB_ID, ModelVersion


def version(number: int, *, ours: bool = True) -> ModelVersion:
    tags = {TAG_JOB_ID: f"job-{number}"} if ours else {}
    return ModelVersion("reviews", str(number), "run", "models:/m-1", tags)


@pytest.mark.parametrize(
    ("aliased", "keep", "deleted"),
    [
        ((), 2, ["1", "2", "8", "9"]),
        (("8", "1"), 2, ["2", "9"]),
        (("12",), 1, ["1", "2", "8", "9", "10"]),
        ((), 6, []),
        ((), 100, []),
    ],
)
def test_versions_with_an_alias_and_the_newest_are_kept(
    aliased: tuple[str, ...], keep: int, deleted: list[str]
) -> None:
    versions = [version(number) for number in (12, 1, 9, 2, 10, 8)]
    assert [old.version for old in expired(versions, aliased, keep)] == deleted


def test_versions_that_no_training_registered_are_kept_and_do_not_count_as_newest() -> None:
    versions = [version(1), version(2, ours=False), version(3), version(4, ours=False)]
    assert [old.version for old in expired(versions, (), 1)] == ["1"]
