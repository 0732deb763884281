"""Downloaded versions on disk."""

from pathlib import Path

import pytest

from inference_svc.versions.cache import ModelCache
from inference_svc.versions.preparer import PrepareFailed
from tests.twins.replica import LABELS, FakeRegistry, write_golden, write_steered_version
from tests.unit.inference.parts import REVIEWS, Parts


async def test_damaged_cache_is_downloaded_anew(parts: Parts, registry: FakeRegistry) -> None:
    await parts.reload("1")
    await parts.reload("2")
    parts.engine.fail_with = OSError("truncated file")
    with pytest.raises(PrepareFailed):
        await parts.replica.prepare(REVIEWS, "1")
    parts.engine.fail_with = None
    await parts.replica.prepare(REVIEWS, "1")
    assert registry.downloads == [("reviews", "1"), ("reviews", "2"), ("reviews", "1")]


async def test_a_version_that_is_unusable_itself_is_downloaded_once(
    parts: Parts, registry: FakeRegistry
) -> None:
    parts.engine.fail_with = OSError("no such layer")
    for _ in range(5):
        with pytest.raises(PrepareFailed):
            await parts.replica.prepare(REVIEWS, "1")
    assert registry.downloads == [("reviews", "1")]


async def test_a_cached_version_that_gives_other_answers_is_downloaded_anew(
    parts: Parts, registry: FakeRegistry
) -> None:
    await parts.reload("1")
    folder = parts.cache.folder("reviews", parts.served().id)
    await parts.reload("2")
    wrong = [{"text": "a good film", "label": "bad", "scores": [0.75, 0.25]}]
    write_golden(folder, LABELS, wrong)
    with pytest.raises(PrepareFailed, match="golden set: 'a good film' gave 'good', not 'bad'"):
        await parts.replica.prepare(REVIEWS, "1")
    await parts.reload("1")
    assert registry.downloads.count(("reviews", "1")) == 2


async def test_version_number_used_again_is_not_taken_from_the_cache(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1")
    await parts.reload("2")
    registry.add("reviews", "1", write_steered_version(tmp_path / "another registry"))
    await parts.reload("1")
    assert registry.downloads.count(("reviews", "1")) == 2


async def test_half_downloaded_versions_are_cleared_at_start(tmp_path: Path) -> None:
    for leftover in ("2.incoming", "3.incoming.partial", "1.old.incoming"):
        (tmp_path / "reviews" / leftover).mkdir(parents=True)
    (tmp_path / "reviews" / "1").mkdir()
    ModelCache(tmp_path, keep_versions=1).open()
    assert [path.name for path in (tmp_path / "reviews").iterdir()] == ["1"]
