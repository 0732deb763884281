"""When a load is to reload, and the durations that say so."""

import pytest

from mesh_cli.errors import BadInput
from mesh_cli.load.reloads import reload_moments
from mesh_cli.terminal.durations import seconds


def test_durations_need_a_unit() -> None:
    assert [seconds(text, "") for text in ("20s", "50ms", "1.5m")] == [20, 0.05, 90]
    for wrong in ("20", "s", "-1s", "1h"):
        with pytest.raises(BadInput, match="--duration"):
            seconds(wrong, "--duration")


def test_reloads_happen_at_each_moment_and_at_each_multiple() -> None:
    assert reload_moments([5, 1], None, 20) == [1, 5]
    assert reload_moments([5], 5, 20) == [5, 10, 15]
    assert reload_moments([25], None, 20) == []
