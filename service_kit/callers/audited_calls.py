"""Which calls are changes, and what is noted of each."""

from collections.abc import Callable, Iterator
from typing import Any

from grpc import StatusCode

from service_kit.callers.audit_entry import NO_TOKEN, Entry
from service_kit.callers.caller import Caller, named_model
from service_kit.errors import MeshError

_CHANGES = {
    "mesh.v1.DataService": (
        *("AddExamples", "ImportExamples", "DeleteExamples"),
        *("Trigger", "Retry"),
    ),
    "mesh.v1.TrainService": ("Train", "CancelTraining"),
    "mesh.v1.ReloadService": (
        *("Reload", "Rollback", "SetTraffic", "StartCanary", "StopCanary", "RemoveModel"),
    ),
}
AUDITED = frozenset(f"/{service}/{name}" for service, names in _CHANGES.items() for name in names)
"""The methods of the scopes data, train and release, as their paths. Each has one response."""

# Fields of a request that have columns of their own.
_COLUMNS = frozenset({"model", "request_id"})
# Fields of an answer that say what came of the call.
_RESULTS = (
    *("id", "version", "from_version", "to_version", "versions", "state", "added", "deleted"),
    *("rows", "created", "rows_removed"),
)
# Longest text of a request that is noted, in characters.
_MAX_TEXT = 60
_LEFT = "the caller left before the answer; what the call began may go on"


class AuditedCall:
    """One call of an audited method, while it runs."""

    def __init__(self, record: Callable[[Entry], None], method: str, caller: Caller) -> None:
        """`record` takes the entry when the call ends."""
        self._record = record
        self._method = method
        self._caller = caller
        self._first: Any = None

    def see(self, message: Any) -> None:
        """Note a message of the caller. Of a stream the first one says what the call is about."""
        if self._first is None:
            self._first = message

    def end(
        self, code: StatusCode, response: Any = None, error: BaseException | None = None
    ) -> None:
        """Record how the call ended."""
        asked = getattr(self._first, "header", self._first)
        words = [", ".join(_described(asked))]
        if results := ", ".join(_described(response, _RESULTS)):
            words += [f"→ {results}"]
        if isinstance(error, MeshError):
            words += [str(error)]
        elif code is StatusCode.CANCELLED:
            words += [_LEFT]
        self._record(
            Entry(
                subject=self._caller.name or NO_TOKEN,
                token_id=self._caller.token_id,
                method=self._method.removeprefix("/"),
                # A call about a job names no model, but the job does.
                model=named_model(self._first) or named_model(response),
                request_id=_text(asked, "request_id") or _text(response, "request_id"),
                outcome=code.name,
                detail="; ".join(filter(None, words)),
            )
        )


def _text(message: Any, name: str) -> str:
    value = getattr(message, name, "")
    return value if isinstance(value, str) else ""


def _described(message: Any, only: tuple[str, ...] | None = None) -> Iterator[str]:
    """Yield the fields of a message that are set, each in a few words, without long texts."""
    if not hasattr(message, "ListFields"):
        return
    for field, value in message.ListFields():
        if field.name in _COLUMNS or (only is not None and field.name not in only):
            continue
        if field.is_repeated:
            yield f"{field.name}: {len(value)}"
        elif field.message_type is not None:
            yield from (f"{field.name}.{each}" for each in _described(value))
        elif field.enum_type is not None:
            known = field.enum_type.values_by_number.get(value)
            yield f"{field.name} {known.name if known else value}"
        elif isinstance(value, str):
            yield f"{field.name} {value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + '…'}"
        elif isinstance(value, bool):
            yield field.name
        else:
            yield f"{field.name} {value:g}" if isinstance(value, float) else f"{field.name} {value}"
