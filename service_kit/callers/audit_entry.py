"""One entry of the audit, and what may stand in it."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

# Longest values, in characters. What is longer is cut.
MAX_DETAIL = 500
MAX_VALUE = 200
# Who calls without a token, where a mesh asks for none or from inside of it.
NO_TOKEN = "(no token)"  # noqa: S105
# What the mesh does by itself.
MESH = "mesh"


@dataclass(frozen=True)
class Entry:
    """Who did what, to which model, and how it ended. Every value is one line of plain text."""

    subject: str
    method: str
    """Such as `mesh.v1.TrainService/Train`."""

    model: str = ""
    token_id: str = ""
    request_id: str = ""
    outcome: str = "OK"
    """Name of the gRPC code."""

    detail: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        for name in ("subject", "method", "model", "token_id", "request_id", "outcome", "detail"):
            most = MAX_DETAIL if name == "detail" else MAX_VALUE
            object.__setattr__(self, name, inert(getattr(self, name), most))


def inert(text: str, most: int = MAX_VALUE) -> str:
    """Return at most `most` characters of a text, in which nothing but letters, signs and blanks is
    left: other characters are written as their escapes, since terminals and pages may obey them."""
    shown = text[: most + 1]
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in shown)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
