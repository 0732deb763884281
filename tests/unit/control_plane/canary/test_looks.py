"""What the looks of a step count, and how many false alarms they may cause."""

import pytest

from control_plane.topology import Split
from tests.unit.control_plane.canary.twins import PLAN, TwinCanaries


async def test_what_is_dealt_by_other_weights_is_left_out() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 2
    await twin.start()
    await twin.until(lambda canary: twin.clock.seconds == 2 and canary.comparison is not None)
    # Somebody sets other weights for a while; they are no part of this step.
    await twin.traffic.set("reviews", Split(10, 90))
    twin.clock.go_on_until(5)
    await twin.until(lambda _: twin.clock.seconds == 5)
    await twin.traffic.set("reviews", PLAN.split(0))
    twin.clock.go_on_until(7)
    await twin.until(lambda _: twin.clock.seconds == 7)
    twin.clock.go_on_until(8)
    canary = await twin.until(lambda _: twin.clock.seconds == 8)
    assert canary.comparison is not None
    # The looks at 2, 6 and 7 s count, and those at 3 and 4 s do not; that at 5 s may come late.
    counts = canary.comparison.challenger.answered, canary.comparison.champion.answered
    assert counts in [(3 * 15, 3 * 285), (4 * 15, 4 * 285)]
    await twin.canaries.stop("reviews")


async def test_a_step_that_begins_anew_has_half_of_the_false_alarms_that_it_had() -> None:
    twin = TwinCanaries()
    twin.clock.frozen_at = 5
    await twin.start()
    limits = []
    for _ in range(3):
        canary = await twin.until(lambda canary: canary.comparison is not None)
        assert canary.comparison is not None
        limits.append(canary.comparison.tests[0].p_value_limit)
        await twin.canaries.close()
        twin.restart()
        await twin.canaries.resume()
        twin.clock.go_on_until(twin.clock.seconds + 5)
    assert limits == pytest.approx([limits[0], limits[0] / 2, limits[0] / 4])
    await twin.canaries.stop("reviews")
