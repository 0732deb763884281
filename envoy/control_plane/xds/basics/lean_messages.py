"""Imports envoy-data-plane's messages without their validators.

The generated messages are pydantic dataclasses, whose import takes 2 s of CPU at every start; most
of it builds validators. betterproto2 takes plain dataclasses too, and encodes them to the same
bytes. A misspelt field raises TypeError either way. Wrong types are found by mypy, and by a test
that builds everything with the validators.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import betterproto2
import pydantic.dataclasses

_type_hints: Any = betterproto2.Message._type_hints.__func__  # type: ignore[attr-defined]
# betterproto2 calls this once for each field of a class, and each call evaluates the annotations of
# all fields. So the result is cached.
_cached_type_hints: Any = functools.cache(_type_hints)


@contextmanager
def lean_messages() -> Iterator[None]:
    """Generated messages that are imported inside this context are lean; earlier ones stay."""
    original = pydantic.dataclasses.dataclass
    pydantic.dataclasses.dataclass = _lean  # type: ignore[assignment]
    try:
        yield
    finally:
        pydantic.dataclasses.dataclass = original


def _lean(*, config: Mapping[str, object], **options: Any) -> Callable[[Any], Any]:
    """Stand in for the decorator that generated code calls; `config` is for validators.

    A class becomes a dataclass only with its first object: nine in ten classes never have one.
    """

    def decorated(message: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            del message.__init__
            dataclasses.dataclass(**options)(message)
            self.__init__(*args, **kwargs)

        message.__init__ = __init__
        message._type_hints = classmethod(_cached_type_hints)
        return message

    return decorated
