"""Imports envoy-data-plane's messages without what takes 2 s of CPU at every start.

They are generated as pydantic dataclasses, and building the validators takes most of it.
betterproto2 takes plain dataclasses too, and the bytes are the same. A misspelt field raises
TypeError either way; wrong types are caught by mypy, and by a test that builds everything with the
validators.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import betterproto2
import pydantic.dataclasses

_type_hints: Any = betterproto2.Message._type_hints.__func__  # type: ignore[attr-defined]
# It is asked once for each field of a class, and evaluates the annotations of all every time.
_cached_type_hints: Any = functools.cache(_type_hints)


@contextmanager
def lean_messages() -> Iterator[None]:
    """Import generated messages within; those that are imported already stay as they are."""
    own = pydantic.dataclasses.dataclass
    pydantic.dataclasses.dataclass = _lean  # type: ignore[assignment]
    try:
        yield
    finally:
        pydantic.dataclasses.dataclass = own


def _lean(*, config: Mapping[str, object], **options: Any) -> Callable[[Any], Any]:
    """The decorator that generated code calls; `config` is for validators.

    A class becomes a dataclass with its first object: nine in ten never have one.
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
