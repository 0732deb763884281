"""A canary goes step by step; each way in which it can end is noted with its reason."""

import asyncio

import pytest

from control_plane.canary.record import Canary, CanaryState, Plan
from control_plane.canary.steps import TAG_CANARY, TAG_OUTCOME, TAG_OUTCOME_REASON
from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from service_kit.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from service_kit.model_registry.records import CHALLENGER, CHAMPION, PREVIOUS, SERVING, TAG_P_VALUE
from tests.real_parts.waiting import until
from tests.unit.control_plane.canary.twins import PLAN, TwinCanaries


def outcome(twin: TwinCanaries) -> tuple[str, str]:
    tags = twin.registry.tags["2"]
    return tags[TAG_OUTCOME], tags[TAG_OUTCOME_REASON]


async def test_a_better_challenger_passes_every_step_and_is_promoted() -> None:
    twin = TwinCanaries()
    started = await twin.start()
    assert (started.state, started.version, started.champion) == (CanaryState.RUNNING, "2", "1")
    ended = await twin.end()
    assert ended.state is CanaryState.PROMOTED
    assert twin.traffic.splits == [
        Split(95, 5, 10),
        Split(75, 25, 10),
        Split(50, 50, 10),
        ALL_TO_THE_CHAMPION,
    ]
    assert twin.registry.aliases == {CHAMPION: "2", PREVIOUS: "1", SERVING: "2"}
    assert twin.reloader.requests == [("2", "canary-a")]
    assert outcome(twin) == ("PROMOTED", ended.reason)
    assert "better than version 1: p = 0.001 on 1,000 held-out rows" in ended.reason
    assert twin.clock.seconds == pytest.approx(30)
    assert ended.comparison is not None
    assert ended.comparison.challenger.answered > 1000


@pytest.mark.parametrize(
    ("change", "criterion"),
    [
        ({"disagreement": 0.95}, "agreement: "),
        ({"challenger_ms": 10.0}, "latency: median latency"),
        ({"challenger_fails": 0.5}, "errors: "),
    ],
)
async def test_a_bad_challenger_is_rolled_back_within_seconds(
    change: dict[str, float], criterion: str
) -> None:
    twin = TwinCanaries()
    vars(twin.numbers).update(change)
    await twin.start()
    ended = await twin.end()
    assert (ended.state, ended.step, ended.weight) == (CanaryState.ROLLED_BACK, 0, 0)
    assert criterion in ended.reason
    assert twin.clock.seconds < 5
    assert twin.traffic.split == ALL_TO_THE_CHAMPION
    assert twin.registry.aliases == {CHAMPION: "1", SERVING: "1", CHALLENGER: "2"}
    assert outcome(twin) == ("ROLLED_BACK", ended.reason)


async def test_too_few_requests_pause_and_leave_the_weights() -> None:
    twin = TwinCanaries()
    twin.numbers.rate = 20
    await twin.start()
    ended = await twin.end()
    assert ended.state is CanaryState.PAUSED
    assert "the Challenger answered 10 of the 100 requests needed" in ended.reason
    assert (twin.traffic.split, ended.weight) == (Split(95, 5, 10), 5)
    assert outcome(twin) == ("PAUSED", ended.reason)


async def test_a_challenger_that_is_only_as_good_is_paused_after_the_last_step() -> None:
    twin = TwinCanaries()
    twin.registry.tags["2"][TAG_P_VALUE] = "0.3"
    await twin.start()
    ended = await twin.end()
    assert (ended.state, ended.step) == (CanaryState.PAUSED, 2)
    assert "not known to be better: p = 0.3" in ended.reason
    assert twin.registry.aliases[CHAMPION] == "1"


async def test_a_restart_in_the_middle_goes_on_at_the_same_step() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 14
    await twin.start()
    await twin.until(lambda canary: canary.step == 1 and twin.clock.seconds == 14)
    await twin.canaries.close()
    twin.restart()
    known = await twin.canaries.get("reviews")
    assert (known.step, known.weight, known.state) == (1, 25, CanaryState.RUNNING)
    twin.clock.thaw()
    await twin.canaries.resume()
    ended = await twin.end()
    assert ended.state is CanaryState.PROMOTED
    assert ended.started_at == known.started_at
    assert [split.challenger for split in twin.traffic.splits] == [5, 25, 25, 50, 0]


async def test_a_promotion_that_a_crash_broke_off_is_carried_to_its_end() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 14
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 14)
    await twin.canaries.close()
    await twin.promotions.promote("reviews", "2", "1")
    twin.restart()
    await twin.canaries.resume()
    ended = await twin.end()
    assert ended.state is CanaryState.PROMOTED
    assert twin.registry.aliases[SERVING] == "2"


async def test_an_ended_canary_is_shown_and_not_resumed_after_a_restart() -> None:
    twin = TwinCanaries()
    await twin.start()
    ended = await twin.end()
    twin.restart()
    await twin.canaries.resume()
    assert not twin.canaries.running
    again = await twin.canaries.get("reviews")
    assert (again.state, again.reason) == (ended.state, ended.reason)


async def test_stop_gives_all_traffic_to_the_champion() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 3
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 3)
    stopped = await twin.canaries.stop("reviews")
    assert (stopped.state, stopped.weight) == (CanaryState.STOPPED, 0)
    assert stopped.reason == "stopped at step 1 of 3, as asked"
    assert twin.traffic.split == ALL_TO_THE_CHAMPION
    assert await twin.canaries.stop("reviews") == stopped
    assert outcome(twin)[0] == "STOPPED"


async def test_a_paused_canary_can_be_stopped_after_a_restart() -> None:
    twin = TwinCanaries()
    twin.numbers.rate = 20
    await twin.start()
    await twin.end()
    twin.restart()
    assert (await twin.canaries.stop("reviews")).state is CanaryState.STOPPED
    assert twin.traffic.split == ALL_TO_THE_CHAMPION


async def test_a_paused_canary_makes_room_for_the_next() -> None:
    twin = TwinCanaries()
    twin.numbers.rate = 20
    await twin.start()
    await twin.end()
    twin.numbers.rate = 200
    await twin.start(request_id="b")
    assert (await twin.end()).state is CanaryState.PROMOTED


async def test_the_same_request_starts_one_canary() -> None:
    twin = TwinCanaries()
    first = await twin.start()
    assert await twin.start() == first
    with pytest.raises(AlreadyExists):
        await twin.start(Plan((10,), 10.0))
    await twin.end()
    assert (await twin.start()).state is CanaryState.PROMOTED
    assert twin.promotions.count == 1


async def test_one_canary_a_model() -> None:
    twin = TwinCanaries()
    await twin.start()
    with pytest.raises(FailedPrecondition, match="a canary of version 2 of reviews is running"):
        await twin.start(request_id="b")
    await twin.canaries.close()


async def test_without_a_challenger_there_is_no_canary() -> None:
    twin = TwinCanaries(Champion="1", Serving="1")
    with pytest.raises(FailedPrecondition, match="has no Challenger"):
        await twin.start()
    with pytest.raises(NotFound, match="has had no canary"):
        await twin.canaries.get("reviews")


async def test_the_fleet_has_to_serve_the_champion() -> None:
    twin = TwinCanaries(Champion="3", Serving="1", Challenger="2")
    with pytest.raises(FailedPrecondition, match="reload first"):
        await twin.start()


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
async def test_another_champion_or_challenger_ends_the_canary(alias: str) -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 3
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 3)
    await twin.canaries.close()
    twin.registry.aliases[alias] = "3"
    twin.clock.thaw()
    twin.restart()
    await twin.canaries.resume()
    ended = await twin.end()
    assert (ended.state, ended.reason) == (
        CanaryState.STOPPED,
        f"version 3 became the {alias} meanwhile",
    )
    assert twin.traffic.split == ALL_TO_THE_CHAMPION


async def test_a_challenger_that_cannot_be_prepared_is_rolled_back() -> None:
    twin = TwinCanaries()
    twin.traffic.failure = Aborted("replica r1 failed at golden set")
    await twin.start()
    ended = await twin.end()
    assert ended.state is CanaryState.ROLLED_BACK
    assert "replica r1 failed at golden set" in ended.reason


async def test_a_reload_that_fails_after_the_promotion_pauses_and_says_how_to_repeat_it() -> None:
    twin = TwinCanaries()
    twin.reloader.failure = Aborted("replica r1 failed at load")
    await twin.start()
    ended = await twin.end()
    assert ended.state is CanaryState.PAUSED
    assert "version 2 is the Champion now" in ended.reason
    assert "`mesh reload reviews` tries again" in ended.reason


async def test_a_canary_waits_for_a_registry_that_is_away() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 3
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 3)
    twin.registry.up = False
    twin.clock.thaw()
    # The first step lasts 10 seconds; the begin of the second one cannot be recorded then.
    waiting = await twin.until(lambda canary: canary.step == 1 and twin.clock.seconds > 20)
    assert waiting.state is CanaryState.RUNNING
    assert Canary.from_json("reviews", twin.registry.model_tags[TAG_CANARY]).step == 0
    twin.registry.up = True
    assert (await twin.end()).state is CanaryState.PROMOTED
    assert outcome(twin)[0] == "PROMOTED"


async def test_a_restart_waits_for_a_registry_that_is_away() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 3
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 3)
    await twin.canaries.close()
    twin.restart()
    twin.registry.up = False
    twin.clock.thaw()
    resuming = asyncio.create_task(twin.canaries.resume())
    await until(lambda: twin.registry.refused_calls >= 3)
    assert not resuming.done()
    twin.registry.up = True
    await resuming
    assert (await twin.end()).state is CanaryState.PROMOTED


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan((), 10.0), "steps: has 0 steps"),
        (Plan((5, 5), 10.0), r"steps\[1\]: is 5; it must be above 5"),
        (Plan((100,), 10.0), r"steps\[0\]: is 100"),
        (Plan((5,), 0.0), "step_seconds: is 0; it must be 1 to 86,400"),
        (Plan((5,), 10.0, 101), "mirror_percent: is 101"),
    ],
)
async def test_a_plan_that_breaks_a_rule_is_refused(plan: Plan, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        await TwinCanaries().start(plan)


async def test_the_record_survives_its_tag() -> None:
    twin = TwinCanaries()
    started = await twin.start(PLAN)
    read = Canary.from_json("reviews", twin.registry.model_tags[TAG_CANARY])
    assert read == started
    await twin.canaries.close()
