"""A version that does not fit is refused when it is prepared, and what is served stays."""

import pytest

from inference_svc.engines.base import MemoryNeed
from inference_svc.serving.slots import SlotKey
from inference_svc.versions.memory_room import MemoryRoom, Room
from inference_svc.versions.preparer import PREPARE_FAILED, PrepareFailed
from tests.unit.inference.parts import REVIEWS, TRIAL, Parts

MIB = 1 << 20
OTHER = SlotKey("other")


class Machine:
    """A machine of 300 MiB, where each loaded version holds 60 MiB and needs 40 more to compute."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.left_behind = 0
        parts.engine.memory = MemoryNeed(60 * MIB, 40 * MIB)
        parts.upcoming._preparer._room = MemoryRoom(find=self.room)

    def room(self, limit: int) -> Room:
        slots = [served.slot for served in self.parts.slots.all_served()]
        kept = 0 if self.parts.engine.released else self.left_behind
        return Room((300 - 60 * len(slots)) * MIB - kept, 300 * MIB, "this test")


async def test_a_model_that_does_not_fit_is_refused_and_the_others_stay(parts: Parts) -> None:
    Machine(parts)
    await parts.reload("1")
    await parts.reload("1", OTHER)
    # 180 MiB are free: a third version fits, but no later version beside it.
    parts.registry.add("third", "1", parts.registry.folders["other", "1"])
    parts.registry.add("fourth", "1", parts.registry.folders["other", "1"])
    await parts.reload("1", SlotKey("third"))
    with pytest.raises(PrepareFailed, match=r"load: version 1 of fourth needs about 100 MiB") as no:
        await parts.replica.prepare(SlotKey("fourth"), "1")
    assert (no.value.reason, no.value.step) == (PREPARE_FAILED, "load")
    assert parts.slots.model_names() == ["other", "reviews", "third"]
    assert len(parts.engine.loaded) == 3
    assert (await parts.replica.predict(REVIEWS, ["good"])).served.version == "1"


async def test_a_later_version_takes_the_room_that_was_left_for_it(parts: Parts) -> None:
    Machine(parts)
    await parts.reload("1")
    await parts.reload("1", OTHER)
    await parts.reload("1", TRIAL)
    # 120 MiB are free: enough for a version beside the one that it replaces.
    await parts.reload("2")
    await parts.reload("3")
    assert parts.version() == "3"


async def test_memory_that_earlier_versions_left_behind_is_given_back_first(parts: Parts) -> None:
    machine = Machine(parts)
    machine.left_behind = 290 * MIB
    await parts.reload("1")
    assert parts.engine.released == 1
    assert parts.version() == "1"


async def test_a_refused_version_stays_on_disk(parts: Parts) -> None:
    machine = Machine(parts)
    parts.engine.memory = MemoryNeed(400 * MIB, 0)
    for _ in range(2):
        with pytest.raises(PrepareFailed, match="remove a model"):
            await parts.replica.prepare(REVIEWS, "1")
    assert parts.registry.downloads == [("reviews", "1")]
    assert machine.parts.slots.model_names() == []


async def test_a_served_version_tells_what_it_holds(parts: Parts) -> None:
    Machine(parts)
    await parts.reload("1")
    assert parts.served().prepared.memory_bytes == 60 * MIB
