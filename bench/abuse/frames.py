"""Frames of HTTP/2 as bytes, also those that no library sends."""

import struct
from collections import Counter
from collections.abc import Sequence

from hpack import Encoder

from bench.abuse.target import Tally

Headers = Sequence[tuple[str, str]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 0, 1, 2, 3, 4, 6
GOAWAY, WINDOW_UPDATE, CONTINUATION = 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
_CODES = {0: "no error", 1: "protocol error", 3: "flow control", 7: "refused", 8: "cancelled"}
_CODES |= {11: "enhance your calm"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def start(*settings: tuple[int, int]) -> bytes:
    """What a client sends first."""
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in settings))


def number(value: int) -> bytes:
    """A number of four bytes, such as an error code."""
    return struct.pack(">I", value)


def head(encoder: Encoder, stream: int, headers: Headers, end: bool = True) -> bytes:
    """A whole head in one frame, with or without the end of the request."""
    flags = END_HEADERS | (END_STREAM if end else 0)
    block: bytes = encoder.encode(headers)
    return frame(HEADERS, flags, stream, block)


def streams(count: int, first: int = 1) -> range:
    """Ids of the next streams of a client."""
    return range(first, first + 2 * count, 2)


def note(data: bytes, tally: Tally) -> None:
    """Count the ends of streams and of the connection in what the mesh sent."""
    got: Counter[str] = tally.got
    while len(data) >= 9:
        size = int.from_bytes(data[:3], "big")
        kind, flags, payload = data[3], data[4], data[9 : 9 + size]
        if kind in (RST_STREAM, GOAWAY):
            code = int.from_bytes(payload[:4] if kind == RST_STREAM else payload[4:8], "big")
            word = "stream" if kind == RST_STREAM else "connection"
            got[f"{word} ended: {_CODES.get(code, code)}"] += 1
        elif kind in (HEADERS, DATA) and flags & END_STREAM:
            got["answered"] += 1
        data = data[9 + size :]
