"""How long supervisord waits before it restarts a program that dies as it starts."""

import time
from types import SimpleNamespace

from supervisor.states import ProcessStates

from mesh_cli.local.supervisord_config import START_RETRIES
from mesh_cli.local.supervisord_main import LONGEST_WAIT_S, PersistentConfig, PersistentProcess

STARTS = 2 * START_RETRIES


class Program(PersistentConfig):
    """A program with the values of supervisord_config.py; nothing is started."""

    def __init__(self) -> None:
        self.name, self.startsecs, self.startretries = "part", 1, START_RETRIES
        self.options = SimpleNamespace(
            mood=1, logger=SimpleNamespace(info=lambda _: None, warn=lambda _: None)
        )


def dies_as_it_starts(process: PersistentProcess) -> float:
    """Let the program die as it starts; returns the seconds until supervisord restarts it."""
    process.state = ProcessStates.STARTING
    process.change_state(ProcessStates.BACKOFF)
    waits: float = round(process.delay - time.time())
    return waits


def test_the_wait_grows_to_its_limit_and_the_program_is_never_given_up() -> None:
    process = Program().make_process()
    waits = [dies_as_it_starts(process) for _ in range(STARTS)]
    assert waits[:LONGEST_WAIT_S] == list(range(1, LONGEST_WAIT_S + 1))
    assert set(waits[LONGEST_WAIT_S:]) == {LONGEST_WAIT_S}
    process.transition()
    assert process.state == ProcessStates.BACKOFF


def test_a_program_that_lived_begins_with_a_short_wait_again() -> None:
    process = Program().make_process()
    for _ in range(STARTS):
        dies_as_it_starts(process)
    process.state = ProcessStates.STARTING
    process.laststart = time.time() - 2  # longer than startsecs
    process.transition()
    assert process.state == ProcessStates.RUNNING
    assert dies_as_it_starts(process) == 1


def test_the_wait_is_no_longer_after_the_clock_was_set_back() -> None:
    process = Program().make_process()
    for _ in range(STARTS):
        dies_as_it_starts(process)
    process.delay += 3_600
    process.transition()
    assert process.delay - time.time() <= LONGEST_WAIT_S
