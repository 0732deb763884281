"""A version is known by its number and its source: a model made anew starts at 1 again."""

from concurrent.futures import Executor
from pathlib import Path

import grpc
import pytest

from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.serving.slots import SlotKey
from inference_svc.versions.preparer import PrepareFailed
from mesh.v1 import replica_pb2
from service_kit.errors import FailedPrecondition, NotFound
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import SERVING
from tests.twins.replica import FakeRegistry, write_steered_version
from tests.unit.inference.parts import REVIEWS, TRIAL, HeldRegistry, Parts, filled


def made_anew(registry: FakeRegistry, folder: Path) -> str:
    """Delete `reviews` and register another version 1 of it; returns its source."""
    registry.remove("reviews")
    files = write_steered_version(folder / "made anew")
    registry.add("reviews", "1", files, SERVING)
    return str(files)


@pytest.mark.parametrize("says_source", [True, False])
async def test_a_version_of_the_same_number_from_another_source_is_swapped_in(
    parts: Parts, registry: FakeRegistry, tmp_path: Path, says_source: bool
) -> None:
    await parts.reload("1")
    old = parts.served()
    source = made_anew(registry, tmp_path)
    asked = source if says_source else ""
    await parts.replica.prepare(REVIEWS, "1", asked)
    swap = await parts.replica.activate(REVIEWS, "1", asked)
    assert parts.served().id.source == source != old.id.source
    assert (swap.from_version, old.retired) == ("1", True)
    assert registry.downloads == [("reviews", "1")] * 2
    answer = await parts.replica.predict(REVIEWS, ["good"])
    assert answer.served is parts.served()


async def test_a_version_that_serves_is_not_loaded_again(parts: Parts) -> None:
    await parts.reload("1")
    source = parts.served().id.source
    for asked in (source, ""):
        await parts.replica.prepare(REVIEWS, "1", asked)
        await parts.replica.activate(REVIEWS, "1", asked)
    assert len(parts.engine.loaded) == 1


async def test_a_challenger_of_the_same_number_is_not_taken_for_the_new_champion(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1", TRIAL)
    source = made_anew(registry, tmp_path)
    await parts.replica.prepare(REVIEWS, "1", source)
    await parts.replica.activate(REVIEWS, "1", source)
    assert parts.served().id.source == source
    assert parts.served(TRIAL).id.source != source


async def test_activate_refuses_a_version_of_another_source(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1")
    source = made_anew(registry, tmp_path)
    with pytest.raises(FailedPrecondition, match="version 1 of reviews is not prepared"):
        await parts.replica.activate(REVIEWS, "1", source)


async def test_a_source_that_the_registry_no_longer_has_is_not_replaced_by_the_new_one(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    old = registry.folders[("reviews", "1")]
    made_anew(registry, tmp_path)
    with pytest.raises(PrepareFailed, match="the model was deleted and made anew"):
        await parts.replica.prepare(REVIEWS, "1", str(old))


async def test_a_model_made_anew_during_its_download_is_not_taken_for_the_old_one(
    tmp_path: Path, executor: Executor
) -> None:
    class ReplacedMeanwhile(HeldRegistry):
        async def download(
            self, name: str, version: str, target: Path, choose: Choose | None = None
        ) -> None:
            made_anew(self, tmp_path)
            await super().download(name, version, target, choose)

    registry = ReplacedMeanwhile()
    filled(registry, tmp_path)
    registry.go.set()
    parts = Parts(tmp_path / "state", registry, executor)
    with pytest.raises(PrepareFailed, match="the model was deleted and made anew"):
        await parts.replica.prepare(REVIEWS, "1")
    assert parts.version() == ""


async def test_a_start_without_the_registry_takes_the_remembered_source_only(
    parts: Parts, registry: FakeRegistry, tmp_path: Path, executor: Executor
) -> None:
    await parts.reload("1")
    remembered = parts.served().id
    made_anew(registry, tmp_path)
    await parts.replica.prepare(REVIEWS, "1")  # in the cache, and never activated
    registry.away = True
    restarted = Parts(tmp_path / "state", registry, executor)
    await restarted.restorer.restore(executor)
    assert restarted.served().id == remembered


async def test_the_state_tells_source_and_run(parts: Parts) -> None:
    await parts.reload("1")
    await parts.replica.prepare(REVIEWS, "2")
    servicer = ReplicaServicer(parts.replica, "r1", "cpu")
    context: grpc.aio.ServicerContext = None  # type: ignore[assignment,type-arg]
    state = await servicer.GetState(replica_pb2.GetStateRequest(), context)
    source = parts.served().id.source
    assert [(slot.version, slot.source, slot.run_id) for slot in state.slots] == [
        ("1", source, "run-1"),
        ("2", source, "run-2"),
    ]


async def test_a_removed_model_leaves_nothing_behind(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1")
    await parts.reload("2", TRIAL)
    await parts.reload("1", SlotKey("other"))
    source = parts.served().id.source
    registry.remove("reviews")
    await parts.replica.abort(TRIAL, "2", source, removed=True)
    await parts.replica.abort(REVIEWS, "1", source, removed=True)
    with pytest.raises(NotFound, match="there is no model reviews; served here: other"):
        await parts.replica.predict(REVIEWS, ["good"])
    assert set(parts.remembered.read()) == {"other"}
    assert [path.name for path in (tmp_path / "state" / "models").iterdir()] == ["other"]


async def test_a_model_that_was_removed_while_the_replica_was_away_leaves_the_cache_at_its_start(
    parts: Parts, registry: FakeRegistry, tmp_path: Path, executor: Executor
) -> None:
    await parts.reload("1")
    registry.remove("reviews")
    restarted = Parts(tmp_path / "state", registry, executor)
    await restarted.restorer.restore(executor)
    assert restarted.remembered.read() == {}
    assert list((tmp_path / "state" / "models").iterdir()) == []


async def test_only_a_removal_unloads_the_version_that_serves(parts: Parts) -> None:
    await parts.reload("1")
    await parts.replica.prepare(REVIEWS, "2")
    await parts.replica.abort(REVIEWS, "2")
    await parts.replica.abort(REVIEWS, "1")  # the change of another replica was given up
    assert parts.version() == "1"
    await parts.replica.abort(REVIEWS, "1", removed=True)
    assert parts.version() == ""


async def test_removing_an_old_model_leaves_the_one_made_anew(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    await parts.reload("1")
    old = parts.served().id.source
    made_anew(registry, tmp_path)
    await parts.reload("1")
    await parts.replica.prepare(REVIEWS, "1", str(registry.folders[("reviews", "1")]))
    await parts.replica.abort(REVIEWS, "1", old, removed=True)
    assert parts.served().id.source != old
    assert parts.cache.folder("reviews", parts.served().id).exists()


async def test_a_version_that_failed_is_forgotten_with_its_model(
    parts: Parts, registry: FakeRegistry, tmp_path: Path
) -> None:
    del registry.folders[("reviews", "1")]
    with pytest.raises(PrepareFailed, match="download: version 1 of reviews does not exist"):
        await parts.replica.prepare(REVIEWS, "1")
    assert parts.upcoming.all()[0].error
    await parts.replica.abort(REVIEWS, "1", "anywhere", removed=True)
    assert parts.upcoming.all() == []
