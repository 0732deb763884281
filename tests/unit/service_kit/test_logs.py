"""Logs are JSON lines, whatever the logged names and texts are."""

import json
import logging

import pytest

from service_kit.logs import JsonFormatter


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J",
        "a\nb\r\u2028c",
        "\x9b31m\x7f",
        "user\u202egnp.exe",
        "\U000e0041",
        "日本 👩\u200d👧",
    ],
)
def test_a_line_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    record = logging.makeLogRecord({"msg": f"label {text}", "levelname": "INFO", "label": text})
    line = JsonFormatter("test").format(record)
    assert line.replace("\u200d", "").isprintable()
    assert json.loads(line)["message"] == f"label {text}"
    assert json.loads(line)["label"] == text


def test_words_stay_readable() -> None:
    record = logging.makeLogRecord({"msg": "日本語 и русский"})
    assert "日本語 и русский" in JsonFormatter("test").format(record)
