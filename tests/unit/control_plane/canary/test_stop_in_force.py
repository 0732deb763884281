"""The end of a canary is not called done before the Champion has all traffic."""

import pytest

from control_plane.canary import canaries
from control_plane.canary.record import CanaryState
from control_plane.topology import ALL_TO_THE_CHAMPION
from service_kit.errors import Unavailable
from tests.unit.control_plane.canary.twins import TwinCanaries


async def test_a_stop_that_is_not_in_force_yet_is_not_called_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canaries, "STOP_S", 0.05)
    twin = TwinCanaries()
    twin.clock.frozen_at = 3
    await twin.start()
    await twin.until(lambda _: twin.clock.seconds == 3)
    twin.clock.thaw()
    twin.traffic.away = Unavailable("no Envoy is connected to the control plane")
    with pytest.raises(Unavailable, match="the Champion does not have all traffic yet"):
        await twin.canaries.stop("reviews")
    assert twin.traffic.split != ALL_TO_THE_CHAMPION
    # It goes on by itself, and a caller who asks again hears how it ended.
    twin.traffic.away = None
    assert (await twin.end()).state is CanaryState.STOPPED
    assert twin.traffic.split == ALL_TO_THE_CHAMPION
    assert (await twin.canaries.stop("reviews")).state is CanaryState.STOPPED
