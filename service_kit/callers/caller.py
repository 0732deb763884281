"""The caller of the call that is under way, as Envoy's headers tell.

Envoy sets these headers from a token that it has verified, and takes them from everybody else. A
call without them comes from inside of the mesh, or is one that needs no token.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from service_kit.errors import PermissionDenied

SUBJECT_HEADER, TOKEN_ID_HEADER = "x-mesh-subject", "x-mesh-token-id"
SCOPES_HEADER, MODELS_HEADER = "x-mesh-scopes", "x-mesh-models"
ISSUER_HEADER = "x-mesh-issuer"
HEADERS = (SUBJECT_HEADER, TOKEN_ID_HEADER, SCOPES_HEADER, MODELS_HEADER, ISSUER_HEADER)
_IN_BYTES = tuple(name.encode() for name in HEADERS)


@dataclass(frozen=True)
class Caller:
    """Who calls, and with which models the caller may work."""

    subject: str = ""
    token_id: str = ""
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] = ("*",)
    """Names of models, or beginnings of names with a `*` behind them."""

    issuer: str = ""
    """Who made the token; empty: the mesh itself."""

    @property
    def name(self) -> str:
        """The subject, with the issuer where it is a foreign one: it may name its callers as it
        likes, also as callers of others are named."""
        return f"{self.subject}@{self.issuer}" if self.issuer else self.subject

    @property
    def may_all(self) -> bool:
        """Whether the caller may work with every model."""
        return "*" in self.models

    def may(self, model: str) -> bool:
        """Whether the caller may work with a model."""
        return any(
            model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern
            for pattern in self.models
        )

    @property
    def like_patterns(self) -> list[str]:
        """The patterns of model names as SQL's LIKE takes them."""
        escaped = (re.sub(r"([\\%_])", r"\\\1", pattern) for pattern in self.models)
        return [f"{each[:-1]}%" if each.endswith("*") else each for each in escaped]

    def check(self, model: str) -> None:
        """Raise PermissionDenied when the caller may not work with a model."""
        if not self.may(model):
            allowed = ", ".join(self.models) or "no model"
            raise PermissionDenied(
                f"the token of {self.name or 'this caller'} is for the models {allowed},"
                f" not for {model[:40]}"
            )


ANYBODY = Caller()
_current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current() -> Caller:
    """The caller of the call that is under way."""
    return _current.get()


def caller_of(headers: Mapping[str, Any]) -> Caller:
    """Return the caller that the headers of a call name."""
    return _made(*(str(headers.get(name, "")) for name in HEADERS))


def enter(context: Any) -> Caller:
    """Make the caller of a gRPC call the current one, for this task and those that it starts."""
    header = getattr(context, "header", None)
    if header is not None:
        caller = _made(*(header(name).decode("latin-1") for name in _IN_BYTES))
    else:
        caller = caller_of(dict(context.invocation_metadata() or ()))
    _current.set(caller)
    return caller


# The same few tokens come again and again.
@lru_cache(maxsize=1024)
def _made(subject: str, token_id: str, scopes: str, models: str, issuer: str) -> Caller:
    if not (subject or token_id or scopes or models or issuer):
        return ANYBODY
    # A token without patterns is for no model.
    return Caller(subject, token_id, tuple(scopes.split()), tuple(models.split()), issuer)


def check_message(caller: Caller, message: Any) -> None:
    """Raise PermissionDenied when the message is about a model that the caller may not work with.

    A message that names no model passes: the method itself looks at what it answers.
    """
    if caller.may_all:
        return
    model = named_model(message)
    if model:
        caller.check(model)


def named_model(message: Any) -> str:
    """Return the name of the model that a message is about; empty: it names none."""
    descriptor = getattr(message, "DESCRIPTOR", None)
    if descriptor is None:
        return ""
    for path in _paths(descriptor):
        found = message
        for field in path:
            found = getattr(found, field)
        if found:
            return str(found)
    return ""


@lru_cache(maxsize=256)
def _paths(descriptor: Any) -> tuple[tuple[str, ...], ...]:
    """The fields of a kind of message in which a model's name can stand."""
    fields = descriptor.fields_by_name
    # The requests of the Open Inference Protocol call the model `name` or `model_name`.
    own = (
        "model",
        "model_name",
        *(["name"] if descriptor.full_name.startswith("inference.") else ()),
    )
    paths: list[tuple[str, ...]] = [(name,) for name in own if name in fields]
    if "header" in fields and fields["header"].message_type is not None:
        paths += [("header", *path) for path in _paths(fields["header"].message_type)]
    return tuple(paths)
