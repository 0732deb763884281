"""Unpacks compressed messages and bodies, no further than a limit.

grpcio unpacks a message whole before anyone can look at its size, and 1 MB of gzip may hold 1 GB.
So the servers have it hand over what came (`GRPC_AS_IT_CAME`), and unpack by themselves.
"""

import zlib

from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_MESSAGE_BYTES

# Encodings by their names in grpc-encoding and Content-Encoding. zlib's header tells whether the
# data is gzip (16 is added to the bits of the window) or deflate.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = tuple(_WINDOW_BITS)

GRPC_AS_IT_CAME = ("grpc.per_message_decompression", 0)
# grpcio does not tell whether a message is compressed. No message begins with gzip's first bytes,
# which are no tag of protobuf; zlib's would be the number 15 of a field, which no request has.
_GZIP = b"\x1f\x8b\x08"
_ZLIB = b"\x78"
_ZLIB_CHECK = 31  # the first two bytes, as one number, can be divided by it
# Text packs to about a third of its size, and one text that is repeated over and over to about a
# hundredth. What packs better, beyond the first MiB, is made to cost time.
_MOST_TIMES = 100
_FREE_BYTES = 1024 * 1024


class UnpacksToTooMuch(InvalidArgument):
    """Compressed data holds more than is taken."""


def decompressed(data: bytes, encoding: str, limit: int, field: str) -> bytes:
    """Return the content, `limit` bytes at most; `encoding` is one of ENCODINGS.

    Raises InvalidArgument about `field` unless `data` is exactly one whole compressed stream, and
    UnpacksToTooMuch. Gzip says its size at its end, so the refusal of an honest bomb costs nothing.
    """
    most = min(limit, max(_FREE_BYTES, _MOST_TIMES * len(data)))
    if data.startswith(_GZIP) and (said := int.from_bytes(data[-4:], "little")) > most:
        raise _too_large(field, f"is not whole, or unpacks to {said:,} bytes", limit)
    bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and data[:1] and data[0] & 0x0F != zlib.DEFLATED:
        bits = -zlib.MAX_WBITS  # some clients send deflate without zlib's header
    stream = zlib.decompressobj(bits)
    try:
        content = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise InvalidArgument(field, f"is not {encoding}: {error}") from error
    if len(content) > most:
        raise _too_large(field, f"unpacks to more than {most:,} bytes", limit)
    if not stream.eof:
        raise InvalidArgument(field, f"is not whole: its {encoding} data ends too early")
    if stream.unused_data:
        more = len(stream.unused_data)
        raise InvalidArgument(field, f"has {more:,} bytes behind the end of its {encoding} data")
    return content


def _too_large(field: str, problem: str, limit: int) -> UnpacksToTooMuch:
    return UnpacksToTooMuch(
        field,
        f"{problem}; at most {limit:,} are taken, and above {_FREE_BYTES:,} at most {_MOST_TIMES}"
        " times the packed size",
    )


def unpacked(message: bytes) -> bytes:
    """Return the content of a message that is compressed, and any other message as it is.

    Raises InvalidArgument when it cannot be unpacked or is then too large.
    """
    if message.startswith(_GZIP):
        encoding = "gzip"
    elif message.startswith(_ZLIB) and not int.from_bytes(message[:2], "big") % _ZLIB_CHECK:
        encoding = "deflate"
    else:
        return message
    return decompressed(message, encoding, MAX_MESSAGE_BYTES, "message")
