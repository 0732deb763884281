"""What the DAG tells Slack, against a webhook on this machine that may fail in any way."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mesh_slack as slack
import pytest

from mesh.v1 import train_pb2
from tests.real_parts.postgres import free_port
from tests.twins.webhook import SECRET, ThreadedWebhook, running_webhook

TRAINED: dict[str, Any] = {
    "version": "3",
    "outcome": "PROMOTED",
    "promoted": True,
    "reason": "0.900 against 0.841 on 1,821 held-out rows",
    "champion_version": "2",
    "champion_accuracy": 0.8412,
    "challenger_accuracy": 0.9,
}
MALFORMED = [f"http://host:port/{SECRET}", SECRET]
KEPT = TRAINED | {"outcome": "KEPT", "promoted": False, "reason": "not better"}


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedWebhook]:
    monkeypatch.delenv("SLACK_URL_FILE", raising=False)
    with running_webhook() as running:
        monkeypatch.setenv("SLACK_URL", running.url)
        yield running


@pytest.fixture
def pauses() -> list[float]:
    """The seconds of every pause between two tries; none of them is slept."""
    return []


def test_slack_is_told(webhook: ThreadedWebhook) -> None:
    assert slack.notify("reviews: version 2 serves now")
    assert webhook.texts == ["reviews: version 2 serves now"]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("<!channel> <!here> <@U123>", "&lt;!channel&gt; &lt;!here&gt; &lt;@U123&gt;"),
        ("<http://evil|your bank>", "&lt;http://evil|your bank&gt;"),
        ("&lt;!channel&gt;", "&amp;lt;!channel&amp;gt;"),
        ("\x1b[31mred\u202e\nversion 9 serves now", "\\x1b[31mred\\u202e\\nversion 9 serves now"),
        ('日本語 и "quotes"', '日本語 и "quotes"'),
    ],
)
def test_what_strangers_named_is_inert(webhook: ThreadedWebhook, text: str, sent: str) -> None:
    assert slack.notify(text)
    assert webhook.texts == [sent]


def test_slack_is_told_to_read_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    def post(url: str, json: dict[str, Any], timeout: float) -> httpx.Response:
        sent.update(json)
        return httpx.Response(200, request=httpx.Request("POST", url))

    monkeypatch.setenv("SLACK_URL", "http://slack")
    monkeypatch.setattr(httpx, "post", post)
    assert slack.notify("*bold* @channel http://evil")
    assert (sent["mrkdwn"], sent["parse"], sent["link_names"]) == (False, "none", False)


def test_a_long_message_is_cut(webhook: ThreadedWebhook) -> None:
    assert slack.notify("x" * 100_000)
    assert len(webhook.texts[0]) == slack.MAX_CHARACTERS


def test_without_a_webhook_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLACK_URL", "SLACK_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert not slack.notify("nobody hears")


def test_the_webhook_may_be_in_a_file(
    webhook: ThreadedWebhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLACK_URL")
    (tmp_path / "slack").write_text(webhook.url + "\n")
    monkeypatch.setenv("SLACK_URL_FILE", str(tmp_path / "slack"))
    assert slack.notify("heard")
    assert webhook.texts == ["heard"]


def test_a_file_that_cannot_be_read_does_no_harm(
    webhook: ThreadedWebhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLACK_URL")
    monkeypatch.setenv("SLACK_URL_FILE", str(tmp_path / "missing"))
    assert not slack.notify("nobody hears")
    assert webhook.texts == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_may_pass_is_tried_again(
    webhook: ThreadedWebhook, pauses: list[float], status: int
) -> None:
    webhook.status = status

    def mend(seconds: float) -> None:
        pauses.append(seconds)
        webhook.status = 200

    assert slack.notify("heard", sleep=mend)
    assert (len(webhook.texts), pauses) == (2, [1.0])


def test_a_webhook_that_always_fails_is_given_up_after_four_tries_with_growing_pauses(
    webhook: ThreadedWebhook, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    webhook.status = 500
    assert not slack.notify("nobody hears", sleep=pauses.append)
    assert (len(webhook.texts), pauses) == (4, [1.0, 2.0, 4.0])
    assert "it answered 500" in caplog.text


def test_a_refusal_is_not_tried_again(webhook: ThreadedWebhook, pauses: list[float]) -> None:
    webhook.status = 404
    assert not slack.notify("nobody hears", sleep=pauses.append)
    assert (len(webhook.texts), pauses) == (1, [])


def test_a_webhook_that_cannot_be_reached_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv("SLACK_URL", f"http://127.0.0.1:{free_port()}/{SECRET}")
    assert not slack.notify("nobody hears", sleep=pauses.append)
    assert pauses == [1.0, 2.0, 4.0]


def test_a_slow_webhook_is_not_waited_for(
    webhook: ThreadedWebhook, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(slack, "TIMEOUT_S", 0.1)
    webhook.hold.clear()
    assert not slack.notify("nobody hears", sleep=pauses.append)
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], url: str
) -> None:
    monkeypatch.setenv("SLACK_URL", url)
    assert not slack.notify("nobody hears", sleep=pauses.append)
    assert pauses == []


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_no_answer_has_the_url_logged(
    webhook: ThreadedWebhook, caplog: pytest.LogCaptureFixture, level: int, status: int
) -> None:
    caplog.set_level(level)
    webhook.status = status
    slack.notify("any text", sleep=lambda seconds: None)
    assert "Slack was" in caplog.text
    assert SECRET not in everything_logged(caplog)


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1:1/{SECRET}", f"http://host:port/{SECRET}", SECRET]
)
def test_no_failure_to_send_has_the_url_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, level: int, url: str
) -> None:
    caplog.set_level(level)
    monkeypatch.setenv("SLACK_URL", url)
    assert not slack.notify("any text", sleep=lambda seconds: None)
    assert "Slack was not told" in caplog.text
    assert SECRET not in everything_logged(caplog)


def everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    """The texts of every logger but httpcore's, with all fields of the records.

    httpcore logs requests at level DEBUG, which nothing in Airflow's environment asks for.
    """
    ours = [record for record in caplog.records if not record.name.startswith("httpcore")]
    return "".join(f"{record.getMessage()} {vars(record)}" for record in ours)


def test_the_text_of_a_promotion_names_version_outcome_and_reason() -> None:
    assert slack.success_text("reviews", TRAINED) == (
        "reviews: version 3 serves now; training outcome promoted: "
        "0.900 against 0.841 on 1,821 held-out rows (accuracy 0.900, version 2 had 0.841)"
    )


@pytest.mark.parametrize("outcome", ["KEPT", "INCONCLUSIVE"])
def test_the_text_of_a_version_that_does_not_serve_names_outcome_and_reason(outcome: str) -> None:
    trained = KEPT | {"outcome": outcome, "champion_version": ""}
    assert slack.success_text("reviews", trained) == (
        f"reviews: version 3 was not promoted; training outcome {outcome.lower()}: not better "
        "(accuracy 0.900)"
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("PROMOTED", "passed its canary and serves now"),
        ("ROLLED_BACK", "was rolled back"),
        ("PAUSED", "is paused in its canary"),
        ("STOPPED", "was stopped in its canary"),
    ],
)
def test_the_text_of_a_canary_names_its_end_and_both_reasons(state: str, words: str) -> None:
    text = slack.success_text("reviews", KEPT, {"canary": state, "reason": "seen in the canary"})
    assert text.startswith(f"reviews: version 3 {words}: seen in the canary; training outcome kept")
    assert "not better" in text


def test_the_text_of_a_failed_training_names_its_error() -> None:
    job = train_pb2.TrainingJob(
        model="reviews", attempt=3, state=train_pb2.TRAINING_STATE_FAILED, error="no rows"
    )
    assert slack.failure_text("run-1", "task_failure", job) == (
        "run-1: the run failed (task_failure); training of reviews failed in attempt 3: no rows; "
        "what serves stays as it was"
    )


def test_the_text_of_a_run_that_failed_after_its_training_names_version_and_outcome() -> None:
    job = train_pb2.TrainingJob(
        model="reviews",
        state=train_pb2.TRAINING_STATE_SUCCEEDED,
        version="3",
        decision=train_pb2.Decision(
            outcome=train_pb2.DECISION_OUTCOME_PROMOTED, reason="first version"
        ),
    )
    text = slack.failure_text("run-1", "task_failure", job)
    assert "; reviews: version 3, training outcome promoted: first version;" in text


def test_the_text_of_a_run_that_was_cut_off_names_the_state_of_its_training() -> None:
    job = train_pb2.TrainingJob(model="reviews", state=train_pb2.TRAINING_STATE_RUNNING)
    text = slack.failure_text("run-1", "timed_out", job)
    assert "the training of reviews is running" in text


def test_the_text_of_a_run_without_a_training_names_the_run_only() -> None:
    assert slack.failure_text("run-1", "task_failure", None) == (
        "run-1: the run failed (task_failure); what serves stays as it was"
    )
