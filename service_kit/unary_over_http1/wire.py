"""gRPC's encoding of messages, metadata, deadlines and statuses; see gRPC's PROTOCOL-HTTP2."""

import base64
from collections.abc import Iterable, Sequence
from urllib.parse import quote_from_bytes

from grpc import StatusCode

from service_kit.decompression import ENCODINGS, decompressed
from service_kit.errors import InvalidArgument, MeshError, Unimplemented

Metadata = Sequence[tuple[str, str | bytes]]
HEAD_BYTES = 5  # in front of a message: the flag of compression and four bytes of length
# Path of Envoy's health checks, which ask whether a server takes unary calls over HTTP/1.1.
HEALTH_PATH = "/mesh.v1/health"
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# The compressions of messages that are read here, as a value of grpc-accept-encoding.
ACCEPTED_ENCODINGS = ",".join(("identity", *ENCODINGS))
# Printable ASCII without the percent sign, which begins an escape.
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def framed(message: bytes) -> bytes:
    """Return a message with its head, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the message in a body, unpacked when it is compressed, to `limit` bytes at most.

    As gRPC demands, raises MeshError (INTERNAL) for a message that is marked as compressed in a
    call without a compression, and Unimplemented when the compression `encoding` is not known.
    Raises InvalidArgument when the body is not one whole message, or its compression is broken or
    unpacks to too much.
    """
    if len(body) < HEAD_BYTES or len(body) - HEAD_BYTES != int.from_bytes(body[1:5], "big"):
        raise InvalidArgument("message", "the body is not exactly one whole message")
    message = body[HEAD_BYTES:]
    compressed = body[0]
    if compressed == 0:
        return message
    if compressed != 1:
        raise MeshError(f"message: its first byte is {compressed}; 0 and 1 (compressed) are known")
    if encoding in ("", "identity"):
        raise MeshError("message: is marked as compressed, but the call's grpc-encoding names none")
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise Unimplemented(f"grpc-encoding {encoding[:40]!r} is not known here; send {known}")
    return decompressed(message, encoding, limit, "message")


def timeout_s(header: bytes) -> float | None:
    """Return the seconds of a `grpc-timeout` header; None when it is malformed."""
    unit = _UNIT_S.get(header[-1:])
    digits = header[:-1]
    if unit is None or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * unit


def status_lines(code: StatusCode, message: str = "", metadata: Metadata = ()) -> bytes:
    """Return the header or trailer lines with a call's status and metadata, each ending in CRLF."""
    lines = [(b"grpc-status", str(code.value[0]).encode())]
    if message:
        text = message.encode(errors="backslashreplace")
        lines.append((b"grpc-message", quote_from_bytes(text, _SAFE).encode()))
    return _lines([*lines, *map(_encoded, metadata)])


def decoded(headers: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """Return headers as metadata for handlers."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _encoded(item: tuple[str, str | bytes]) -> tuple[bytes, bytes]:
    name, value = item
    if isinstance(value, bytes):
        return name.encode(), base64.b64encode(value).rstrip(b"=")
    return name.encode(), value.encode("latin-1", errors="replace")


def _lines(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % item for item in items)
