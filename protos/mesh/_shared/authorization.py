"""The caller's token, which goes with every call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar, cast

C = TypeVar("C")

TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "MESH_TOKEN", "MESH_TOKEN_FILE"


class Token:
    """A token that is given, or one in a file, which is read again when the file has changed."""

    def __init__(self, text: str = "", file: str = "") -> None:
        self._file = Path(file) if file else None
        self._seen: tuple[int, int, int] | None = None
        self._text = _checked(text, "token")

    @property
    def text(self) -> str:
        """The token; empty: there is none. Raises ValueError for text that no token can be."""
        if self._file is None:
            return self._text
        try:
            found = self._file.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            if state != self._seen:
                self._text = _checked(self._file.read_text(), str(self._file))
                self._seen = state
        except OSError as error:
            raise ValueError(
                f"{TOKEN_FILE_VARIABLE}: {self._file} cannot be read ({error.strerror})"
            ) from error
        return self._text

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The header of a call."""
        text = self.text
        return (("authorization", f"Bearer {text}"),) if text else ()


def token_or_default(token: str | None) -> Token:
    """`token`; None: the environment's MESH_TOKEN, else the file that MESH_TOKEN_FILE names."""
    if token is not None:
        return Token(token)
    if text := os.environ.get(TOKEN_VARIABLE):
        return Token(text)
    return Token(file=os.environ.get(TOKEN_FILE_VARIABLE, ""))


def authorized(channel: C, token: str | None) -> C:
    """A sync or async channel whose calls carry the token; see `token_or_default`."""
    return cast(C, _AuthorizedChannel(channel, token_or_default(token)))


class _AuthorizedChannel:
    """Passes everything on to a channel. gRPC's own call credentials would demand TLS."""

    def __init__(self, channel: Any, token: Token) -> None:
        self._channel = channel
        self._token = token

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._channel, name)
        if name not in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            return found
        token = self._token

        def make(*args: Any, **kwargs: Any) -> Any:
            method = found(*args, **kwargs)

            def call(request: Any, *, metadata: Any = None, **options: Any) -> Any:
                return method(request, metadata=(*(metadata or ()), *token.metadata()), **options)

            return call

        return make


def _checked(text: str, source: str) -> str:
    """The text without blanks around it. Raises ValueError when it cannot be sent as a header."""
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{source} holds no token: a token is one word of printable ASCII")
    return text
