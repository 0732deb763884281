"""The parts of HTTP/2 (RFC 9113) that a gRPC client needs: frames and header blocks."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hpack import Decoder, HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8, 0x9,
)  # fmt: skip
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 0x1, 0x2, 0x3, 0x4

CANCEL = 0x8
FIRST_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
# Bytes of payload that every peer accepts in a frame.
MAX_FRAME = 16_384

_HEAD = struct.Struct(">BHBBI")
_SETTING = struct.Struct(">HI")
_CACHED_BLOCKS = 1_000


class BadFrame(Exception):
    """The bytes that arrived are no HTTP/2."""


class Frame(NamedTuple):
    """One frame; its payload still contains padding and priority."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as bytes."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """The values of a SETTINGS frame. Raises BadFrame."""
    if len(payload) % _SETTING.size:
        raise BadFrame("SETTINGS of a wrong size")
    return dict(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def content(received: Frame) -> bytes:
    """Payload of a DATA or HEADERS frame without padding and priority."""
    payload = received.payload
    if received.flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if received.kind == HEADERS and received.flags & PRIORITY else payload


def header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers as literals that enter no table, so that the same block can be sent many times."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    prefix, rest = bytearray((127,)), size - 127
    while rest >= 128:
        prefix.append(rest % 128 + 128)
        rest //= 128
    prefix.append(rest)
    return bytes(prefix) + data


class FrameReader:
    """Cuts the bytes of a connection into frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole. Raises BadFrame for one above MAX_FRAME bytes."""
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            if high or low > MAX_FRAME:
                raise BadFrame("a frame of more than 16,384 bytes")
            if end - at < 9 + low:
                break
            yield Frame(kind, flags, stream & LARGEST_WINDOW, buffer[at + 9 : at + 9 + low])
            at += 9 + low
        self._buffer = buffer[at:]


class HeaderReader:
    """Decodes header blocks of a peer that may keep no table (HEADER_TABLE_SIZE 0).

    Without a table the same block always has the same meaning, so decoded blocks are cached.
    """

    def __init__(self) -> None:
        self._cache: dict[bytes, dict[bytes, bytes]] = {}

    def read(self, block: bytes) -> dict[bytes, bytes]:
        """The headers of a block. Raises BadFrame."""
        headers = self._cache.get(block)
        if headers is None:
            decoder = Decoder()
            decoder.max_allowed_table_size = 0
            decoder.header_table_size = 0
            try:
                headers = {
                    bytes(name): bytes(value) for name, value in decoder.decode(block, raw=True)
                }
            except HPACKError as error:
                raise BadFrame(f"headers: {error}") from None
            if len(self._cache) < _CACHED_BLOCKS:
                self._cache[block] = headers
        return headers
