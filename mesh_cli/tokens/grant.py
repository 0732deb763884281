"""A token: who calls, what the caller may do and with which models."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mesh_cli.errors import BadInput
from service_kit.mlflow_gate import routes

SCOPES = ("predict", "view", "data", "train", "release")
# Scopes of the parts of the mesh at MLflow, and of whoever writes to MLflow by hand.
MLFLOW_SCOPES = routes.SCOPES
ALL_MODELS = "*"
DAY_S = 86_400
LONGEST_S = 366 * DAY_S
SHORTEST_S = 60
MAX_PATTERNS = 20
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,99}")
_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}\*?|\*")


@dataclass(frozen=True)
class Grant:
    """What a token says. Raises BadInput for values that no token may have."""

    subject: str
    """Who calls."""
    scopes: tuple[str, ...]
    models: tuple[str, ...] = (ALL_MODELS,)
    """Names of models, or beginnings of names with a `*` behind them."""

    def __post_init__(self) -> None:
        if not _SUBJECT.fullmatch(self.subject):
            raise BadInput(
                f"--subject is {self.subject[:120]!r}; write 1 to 100 letters, digits"
                " and . _ @ : + -"
            )
        _check_all("--scope", self.scopes, (*SCOPES, *MLFLOW_SCOPES))
        if not 1 <= len(self.models) <= MAX_PATTERNS:
            raise BadInput(f"--model is given {len(self.models)} times; give 1 to {MAX_PATTERNS}")
        for model in self.models:
            if not _PATTERN.fullmatch(model):
                raise BadInput(
                    f"--model is {model[:80]!r}; write a model's name, or its beginning and a *"
                    " at the end, for example 'reviews*'"
                )


@dataclass(frozen=True)
class Token:
    """A signed token."""

    id: str
    grant: Grant
    created_at: int
    """Seconds since 1970."""
    expires_at: int
    """Seconds since 1970."""
    text: str
    """What its holder sends."""


def check_life(seconds: float) -> int:
    """Return the seconds that a token holds. Raises BadInput."""
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadInput(
            f"--ttl is {seconds:g} s; a token holds from {SHORTEST_S} s to"
            f" {LONGEST_S // DAY_S} days"
        )
    return int(seconds)


def _check_all(option: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise BadInput(f"{option} is {value[:80]!r}; there are {', '.join(known)}")
    if not values:
        raise BadInput(f"{option} is missing; there are {', '.join(known)}")
