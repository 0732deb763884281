"""Logging: one JSON object a line on standard error, for people and for collectors."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_JOINERS = frozenset("\u200c\u200d")  # inside words and emoji, of which many languages have need


class JsonFormatter(logging.Formatter):
    """Formats a record and its `extra` values as one line of JSON."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        line = json.dumps(entry, default=str, ensure_ascii=False)
        return line if line.isprintable() else "".join(map(_inert, line))


def _inert(character: str) -> str:
    """The character, or its JSON escape if a terminal may obey it or not show it: the names and
    texts in a log are anybody's."""
    if character.isprintable() or character in _JOINERS:
        return character
    return json.dumps(character)[1:-1]


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send the process's log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # httpx logs one line for each REST call, which would bury all other lines.
    logging.getLogger("httpx").setLevel(logging.WARNING)
