"""A database that is away neither holds up nor fails who records an entry."""

import time
from typing import Any

import pytest

from service_kit.audit import cleaning
from service_kit.audit import log as audit
from service_kit.audit.log import AuditLog
from service_kit.callers.audit_entry import Entry
from service_kit.database import Database
from tests.real_parts.waiting import until

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_while_the_database_is_away_entries_wait_up_to_the_bound_and_then_go_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 100)
    monkeypatch.setattr(audit, "CLOSE_S", 0.2)
    log = AuditLog(NOWHERE, "test")
    log.start()
    log.record(Entry("first", "a/b"))
    await until(lambda: "wait for the database" in caplog.text)
    began = time.perf_counter()
    for number in range(102):
        log.record(Entry("shop", "a/b", detail=f"number {number}"))
    assert time.perf_counter() - began < 1
    assert log.waiting == 100
    assert [record.so_far for record in unwritten(caplog)] == [1, 2, 3]
    assert unwritten(caplog)[-1].entry["detail"] == "number 101"
    await log.close()
    assert log.waiting == 0
    assert len(unwritten(caplog)) == 103
    assert unwritten(caplog)[3].entry["subject"] == "first"
    assert unwritten(caplog)[-1].entry["detail"] == "number 98"


def unwritten(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if hasattr(record, "so_far")]


async def test_a_stop_waits_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CLOSE_S", 0.5)
    log = AuditLog(NOWHERE, "test")
    log.start()
    log.record(Entry("shop", "a/b"))
    began = time.perf_counter()
    await log.close()
    assert 0.4 < time.perf_counter() - began < 5


async def test_an_audit_that_was_never_started_is_closed_too() -> None:
    await AuditLog(NOWHERE, "test").close()


async def test_a_cleaning_that_cannot_be_done_is_told_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database(NOWHERE, "test", threads=1)
    assert not await cleaning.cleaned(database)
    assert "is not cleaned" in caplog.text
    await database.close()
