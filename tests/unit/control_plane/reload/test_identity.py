"""A version is told by its source: the number is given again when a model is made anew."""

import pytest

from control_plane.fleet.fleet_view import view_fleet
from service_kit.errors import NotFound
from service_kit.model_registry.records import TAG_FIRST_ANSWER_AT, TAG_RELOADED_AT
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica, moment


def mesh() -> TwinMesh:
    """A fleet that serves version 1 of the first model of this name."""
    registry = TwinRegistry()
    registry.replace(1, {"1": "old"}, Champion="1", Serving="1")
    replicas = [TwinReplica(name, reviews="1@old") for name in ("r1", "r2")]
    return TwinMesh(registry, *replicas)


async def test_a_model_made_anew_is_loaded_though_its_number_is_served_already() -> None:
    twin = mesh()
    twin.registry.replace(2, {"1": "new"}, Champion="1")
    result = await twin.coordinator.reload("reviews", "", "a")
    assert twin.served == ["1@new", "1@new"]
    assert twin.replicas[0].calls == ["prepare 1@new", "activate 1@new"]
    assert [part.from_version for part in result.replicas] == ["1", "1"]


async def test_a_change_that_fails_drops_the_new_one_and_leaves_the_old_one() -> None:
    twin = mesh()
    twin.registry.replace(2, {"1": "new"}, Champion="1")
    twin.replicas[1].fail_at = "load"
    with pytest.raises(Exception, match="failed at load"):
        await twin.coordinator.reload("reviews", "", "a")
    assert "abort 1@new" in twin.replicas[0].calls
    assert twin.served == ["1@old", "1@old"]
    assert not twin.replicas[0].ready


async def test_a_replica_that_still_serves_the_old_model_is_repaired_and_shown() -> None:
    twin = mesh()
    twin.registry.replace(2, {"1": "new"}, Champion="1", Serving="1")
    twin.replicas[1].serving["reviews"] = "1@new"
    fleet = view_fleet(await twin.catalog.read(), await twin.fleet.members())
    assert [replica.eligible for replica in fleet.replicas] == [False, True]
    assert "an earlier model of this name" in fleet.replicas[0].detail
    await twin.settle()
    assert twin.served == ["1@new", "1@new"]


async def test_a_prepared_version_of_the_old_model_is_dropped() -> None:
    twin = mesh()
    twin.registry.replace(2, {"1": "new", "2": "newer"}, Champion="1", Serving="1")
    for replica in twin.replicas:
        replica.serving["reviews"], replica.ready["reviews"] = "1@new", "1@old"
    await twin.settle()
    assert not any(replica.ready for replica in twin.replicas)
    assert twin.served == ["1@new", "1@new"]


async def test_moments_of_the_old_model_are_not_noted_for_the_new_one() -> None:
    twin = mesh()
    twin.registry.replace(2, {"1": "new"}, Champion="1", Serving="1")
    for replica in twin.replicas:
        replica.first_answers["1@old"] = moment(5)
        replica.fail_at = "load"
    await twin.settle()
    assert twin.registry.tags["1"] == {}
    for replica in twin.replicas:
        replica.fail_at = ""
        replica.first_answers["1@new"] = moment(9)
    twin.start()
    await twin.settle()
    tags = twin.registry.tags["1"]
    assert tags[TAG_FIRST_ANSWER_AT].endswith("12:00:09.000+00:00")
    assert TAG_RELOADED_AT in tags


async def test_the_answer_about_the_old_model_is_not_given_again() -> None:
    twin = mesh()
    await twin.coordinator.reload("reviews", "", "retrain__reviews__1")
    twin.registry.replace(2, {"1": "new"}, Champion="1")
    await twin.coordinator.reload("reviews", "", "retrain__reviews__1")
    assert twin.served == ["1@new", "1@new"]
    twin.registry.replace(3, {"1": "newest"}, Champion="1")
    twin.start()
    await twin.coordinator.reload("reviews", "", "retrain__reviews__1")
    assert twin.served == ["1@newest", "1@newest"], "after a restart as well"


async def test_a_model_that_mlflow_lost_is_said_to_be_gone_while_replicas_go_on() -> None:
    twin = mesh()
    await twin.settle()
    twin.registry.model = "renamed"
    twin.registry.aliases.clear()
    with pytest.raises(NotFound, match="it was deleted or renamed there"):
        await twin.coordinator.reload("reviews", "", "a")
    await twin.settle()
    assert twin.served == ["1@old", "1@old"]
    fleet = view_fleet(await twin.catalog.read(), await twin.fleet.members())
    gone = {model.name: model for model in fleet.models}["reviews"]
    assert (gone.serving_version, gone.champion_version) == ("1", "")
    assert "MLflow has no model reviews any more" in gone.detail


async def test_a_registry_that_is_away_has_lost_no_model() -> None:
    twin = mesh()
    await twin.settle()
    twin.registry.up = False
    fleet = view_fleet(await twin.catalog.read(), await twin.fleet.members())
    assert [model.detail for model in fleet.models] == [""]
