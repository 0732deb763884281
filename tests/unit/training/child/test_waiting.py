"""The child process waits for a part that is away."""

import pytest

from service_kit.errors import NotFound, Unavailable
from training_svc.child import waiting
from training_svc.child.waiting import until_available


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PAUSE_S", 0.001)


class Answers:
    """Raises the errors that it was given, one a call, and then returns "here"."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "here"


def test_part_that_is_away_is_tried_until_it_answers() -> None:
    answers = Answers(*[Unavailable("it is away")] * 20)
    assert until_available(answers, "MLflow") == "here"
    assert answers.errors == []


def test_wait_is_logged_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    until_available(Answers(Unavailable("it is away"), Unavailable("still")), "MLflow")
    [record] = caplog.records
    assert {"what": "MLflow", "why": "it is away"}.items() <= vars(record).items()


def test_any_other_error_is_raised_at_once() -> None:
    answers = Answers(NotFound("no such run"), Unavailable("not reached"))
    with pytest.raises(NotFound):
        until_available(answers, "MLflow")
    assert len(answers.errors) == 1
