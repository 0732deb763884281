"""Slack hears of every end, whatever the webhook does, and never holds anything up."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.real_parts.postgres import free_port
from training_svc.jobs.job import Job, State
from training_svc.jobs.slack import TRIES, Slack, message
from training_svc.settings import TrainingSettings

SECRET = "T0/B0/very-secret"
DECISION = {"outcome": "PROMOTED", "reason": "0.886 against 0.842 on 1,821 held-out rows"}
JOB = Job("job-1", "r1", "reviews", state=State.SUCCEEDED, version="7", decision=DECISION)
FAILED = Job("job-2", "r2", "reviews", state=State.FAILED, error="no rows")


class Webhook:
    """A local webhook that answers with the given statuses, the last one again and again."""

    def __init__(self, *statuses: int, delay_s: float = 0.0) -> None:
        self.texts: list[str] = []
        self.calls = 0
        self._statuses = list(statuses)
        self._delay_s = delay_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/services/{SECRET}"
        finally:
            server.close()
            for task in connections:
                task.cancel()
            await asyncio.wait(connections) if connections else None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split()[0])
        body = json.loads(await reader.readexactly(length))
        self.calls += 1
        await asyncio.sleep(self._delay_s)
        status = self._statuses[0] if len(self._statuses) == 1 else self._statuses.pop(0)
        if status < 300:
            self.texts.append(body["text"])
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())


async def told(slack: Slack) -> None:
    """Wait until every post has ended."""
    async with asyncio.timeout(60):
        await asyncio.gather(*slack._posts)


def slack_at(url: str, timeout_s: float = 20.0) -> Slack:
    return Slack(lambda: url, timeout_s=timeout_s, first_pause_s=0.01)


async def test_result_and_decision_are_posted() -> None:
    webhook = Webhook(200)
    async with webhook.running() as url:
        slack = slack_at(url)
        slack.notify(JOB)
        await told(slack)
    assert webhook.texts == [
        ":trophy: *reviews* version 7 promoted: 0.886 against 0.842 on 1,821 held-out rows "
        "(training r1)"
    ]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (replace(JOB, decision=DECISION | {"outcome": "KEPT"}), "version 7 kept"),
        (replace(JOB, decision=DECISION | {"outcome": "INCONCLUSIVE"}), "7 inconclusive"),
        (FAILED, "training r2 failed: no rows"),
    ],
)
def test_every_end_has_its_message(job: Job, words: str) -> None:
    assert words in message(job)


async def test_cancelled_job_is_no_news() -> None:
    webhook = Webhook(200)
    async with webhook.running() as url:
        slack = slack_at(url)
        slack.notify(replace(JOB, state=State.CANCELLED))
        await told(slack)
    assert webhook.calls == 0


async def test_server_error_is_tried_again() -> None:
    webhook = Webhook(500, 503, 200)
    async with webhook.running() as url:
        slack = slack_at(url)
        slack.notify(JOB)
        await told(slack)
    assert (webhook.calls, len(webhook.texts)) == (3, 1)


async def test_server_that_always_fails_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    webhook = Webhook(500)
    async with webhook.running() as url:
        slack = slack_at(url)
        slack.notify(JOB)
        await told(slack)
    assert webhook.calls == TRIES
    assert "no Slack message" in caplog.text


async def test_refusal_is_not_tried_again() -> None:
    webhook = Webhook(404)
    async with webhook.running() as url:
        slack = slack_at(url)
        slack.notify(JOB)
        await told(slack)
    assert webhook.calls == 1


async def test_slow_webhook_does_not_delay_the_job() -> None:
    webhook = Webhook(200, delay_s=1)
    async with webhook.running() as url:
        slack = slack_at(url, timeout_s=0.2)
        slack.notify(JOB)
        assert webhook.calls == 0
        await told(slack)
    assert webhook.calls == TRIES


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize("status", [200, 404, 500, None])
async def test_url_is_never_logged(
    level: int, status: int | None, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # As logs.py sets it for every service.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    caplog.set_level(level)
    webhook = Webhook(status or 200)
    async with webhook.running() as url:
        if status is None:
            url = f"http://127.0.0.1:{free_port()}/services/{SECRET}"
        slack = slack_at(url)
        slack.notify(JOB)
        await told(slack)
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "no Slack message" in logged or "told Slack" in logged
    assert SECRET not in logged


async def test_unreadable_file_is_told_without_harm(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    settings = TrainingSettings(slack_url_file=tmp_path / "missing")
    slack = Slack(settings.slack_webhook)
    slack.notify(JOB)
    await told(slack)
    assert "not readable" in caplog.text


async def test_close_does_not_wait_for_a_dead_webhook() -> None:
    webhook = Webhook(200, delay_s=30)
    async with webhook.running() as url:
        slack = slack_at(url, timeout_s=0.2)
        slack.notify(JOB)
        started = time.perf_counter()
        await slack.close()
    assert time.perf_counter() - started < 10


def test_webhook_is_taken_from_either_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert TrainingSettings().slack_webhook() == ""
    monkeypatch.setenv("SLACK_URL", "https://hooks/plain")
    assert TrainingSettings().slack_webhook() == "https://hooks/plain"
    monkeypatch.setenv("TRAINING_SLACK_URL", "https://hooks/ours")
    assert TrainingSettings().slack_webhook() == "https://hooks/ours"
    (tmp_path / "slack").write_text("https://hooks/file\n")
    settings = TrainingSettings(slack_url_file=tmp_path / "slack")
    assert settings.slack_webhook() == "https://hooks/file"
    assert "hooks" not in repr(settings)
