"""A removal ends everything of a model, also when it is broken off, and nothing of the next one."""

import pytest

from service_kit.errors import AlreadyExists, NotFound, Unavailable
from tests.unit.control_plane.removal.bench import served_model


async def test_everything_of_the_model_ends() -> None:
    twin = served_model()
    twin.services.jobs = ["job-1", "job-2"]
    for replica in twin.replicas:
        replica.challengers["reviews"], replica.ready["reviews"] = "2@other", "3@third"
    await twin.settle()
    answer = await twin.removal.remove("reviews", False, "a")
    assert (answer.versions, answer.rows_removed, answer.replicas_away) == (("1",), False, ())
    assert twin.services.cancelled == ["job-1", "job-2"]
    assert twin.services.calls[0] == "forget", "no further turn begins"
    assert twin.ended_canaries == ["reviews"]
    assert await twin.registry.find_model("reviews") is None
    for replica in twin.replicas:
        assert (replica.serving, replica.ready, replica.challengers) == ({}, {}, {})
    assert twin.services.has_table


async def test_a_version_whose_files_lie_elsewhere_goes_and_leaves_them() -> None:
    twin = served_model()
    twin.registry.replace(1, {"1": "old", "2": "s3://elsewhere"}, Champion="1", Serving="1")
    assert (await twin.removal.remove("reviews", False, "a")).versions == ("1", "2")
    assert await twin.registry.find_model("reviews") is None


async def test_rows_go_when_they_are_to_go() -> None:
    twin = served_model()
    assert (await twin.removal.remove("reviews", True, "a")).rows_removed
    assert not twin.services.has_table


async def test_the_same_request_gets_the_same_answer_after_a_restart() -> None:
    twin = served_model()
    first = await twin.removal.remove("reviews", True, "a")
    twin.start()
    assert await twin.removal.remove("reviews", True, "a") == first
    with pytest.raises(AlreadyExists):
        await twin.removal.remove("reviews", False, "a")


async def test_a_model_that_nobody_knows_is_not_found() -> None:
    twin = served_model()
    twin.services.known = False
    with pytest.raises(NotFound, match="there is no model 'films'"):
        await twin.removal.remove("films", False, "a")


async def test_a_model_that_mlflow_lost_is_unloaded() -> None:
    twin = served_model()
    twin.registry.model = "renamed"
    twin.registry.aliases.clear()
    await twin.removal.remove("reviews", False, "a")
    assert [replica.serving for replica in twin.replicas] == [{}, {}]
    assert await twin.registry.find_model("renamed") is not None


async def test_a_replica_that_was_away_drops_the_model_when_it_comes_back() -> None:
    twin = served_model()
    twin.replicas[1].kill()
    assert (await twin.removal.remove("reviews", False, "a")).replicas_away == ("r2:1",)
    twin.start()
    await twin.removal.resume()
    twin.replicas[1].restart({"reviews": "1@old"})
    await twin.settle()
    assert twin.replicas[1].serving == {}


async def test_a_replica_with_a_model_that_was_not_removed_by_us_keeps_it() -> None:
    twin = served_model()
    await twin.removal.remove("reviews", False, "a")
    twin.replicas[0].serving["reviews"] = "1@made anew and lost"
    twin.replicas[0].serving["films"] = "1@old"
    await twin.settle()
    assert len(twin.replicas[0].serving) == 2


async def test_a_removal_that_a_crash_broke_off_is_carried_to_its_end() -> None:
    twin = served_model()
    twin.registry.refused_deletions = 1
    with pytest.raises(Unavailable):
        await twin.removal.remove("reviews", True, "a")
    assert twin.served == ["1@old", "1@old"]
    twin.start()
    await twin.removal.resume()
    assert await twin.registry.find_model("reviews") is None
    assert [replica.serving for replica in twin.replicas] == [{}, {}]
    answer = await twin.removal.remove("reviews", True, "a")
    assert (answer.versions, answer.rows_removed) == (("1",), True)
    with pytest.raises(NotFound):
        await twin.removal.remove("reviews", False, "b")


async def test_the_same_request_goes_on_after_a_failure_and_names_all_versions() -> None:
    twin = served_model()
    twin.registry.replace(1, {"1": "old", "2": "new", "10": "newest"}, Champion="1", Serving="1")
    twin.services.away = True
    with pytest.raises(Unavailable, match="training service"):
        await twin.removal.remove("reviews", False, "a")
    twin.services.away = False
    await twin.registry.delete_version((await twin.registry.list_versions("reviews"))[0])
    assert (await twin.removal.remove("reviews", False, "a")).versions == ("1", "2", "10")


async def test_a_model_that_was_made_anew_is_not_touched_by_an_old_removal() -> None:
    twin = served_model()
    twin.registry.refused_deletions = 1
    with pytest.raises(Unavailable):
        await twin.removal.remove("reviews", False, "a")
    twin.registry.replace(2, {"1": "new"}, Champion="1")
    twin.services.calls.clear()
    twin.start()
    await twin.removal.resume()
    assert twin.services.calls == []
    await twin.coordinator.reload("reviews", "", "b")
    await twin.settle()
    assert twin.served == ["1@new", "1@new"]


async def test_a_job_that_does_not_end_is_said_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_plane.removal.model_removal.JOBS_END_S", 0.05)
    monkeypatch.setattr("control_plane.removal.model_removal.PAUSE_S", 0.01)
    twin = served_model()

    async def running(model: str) -> list[str]:
        return ["job-1"]

    monkeypatch.setattr(twin.services, "running_jobs", running)
    with pytest.raises(Unavailable, match="has not ended within"):
        await twin.removal.remove("reviews", False, "a")
    assert await twin.registry.find_model("reviews") is not None
