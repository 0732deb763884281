"""Answers by request id: remembered beyond a restart, and never taken for another request."""

import pytest

from service_kit.errors import AlreadyExists
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, two_replicas


def mesh() -> TwinMesh:
    return TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two_replicas())


async def test_a_restart_gives_the_same_answer_and_does_nothing() -> None:
    twin = mesh()
    first = await twin.coordinator.reload("reviews", "", "a")
    twin.registry.aliases["Champion"] = "3"
    twin.start()
    assert await twin.coordinator.reload("reviews", "", "a") == first
    assert twin.served == ["2", "2"]


async def test_a_rollback_of_long_ago_is_not_made_again_after_a_restart() -> None:
    twin = mesh()
    twin.registry.aliases |= {"Champion": "1", "Previous": "2"}
    await twin.coordinator.rollback("reviews", "a")
    await twin.coordinator.rollback("reviews", "b")
    assert twin.served == ["1", "1"]
    twin.start()
    assert (await twin.coordinator.rollback("reviews", "a")).to_version == "2"
    assert twin.served == ["1", "1"]
    assert twin.demotions.count == 2


async def test_an_id_belongs_to_one_request_after_a_restart_as_well() -> None:
    twin = mesh()
    await twin.coordinator.reload("reviews", "", "a")
    twin.start()
    with pytest.raises(AlreadyExists):
        await twin.coordinator.rollback("reviews", "a")


async def test_without_the_store_a_request_is_carried_out_all_the_same() -> None:
    twin = mesh()
    twin.answers.up = False
    first = await twin.coordinator.reload("reviews", "", "a")
    assert first.to_version == "2"
    assert await twin.coordinator.reload("reviews", "", "a") == first


async def test_a_rollback_that_a_second_request_completed_counts_once_for_both() -> None:
    twin = mesh()
    twin.registry.aliases |= {"Champion": "1", "Previous": "2"}
    await twin.coordinator.rollback("reviews", "a")
    # The first request was killed between its two aliases, before it was answered.
    twin.answers.kept.clear()
    twin.registry.aliases |= {"Champion": "2", "Previous": "2"}
    twin.start()
    await twin.coordinator.rollback("reviews", "b")
    twin.answers.kept.clear()
    twin.start()
    assert (await twin.coordinator.rollback("reviews", "a")).to_version == "2"
    assert twin.registry.aliases == {"Champion": "2", "Previous": "1", "Serving": "2"}
