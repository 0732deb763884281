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


def decompressed(data: bytes, encoding: str, limit: int, field: str) -> bytes:
    """Return the content, but `limit` + 1 bytes at most; `encoding` is one of ENCODINGS.

    Raises InvalidArgument about `field` unless `data` is exactly one whole compressed stream.
    """
    bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and data[:1] and data[0] & 0x0F != zlib.DEFLATED:
        bits = -zlib.MAX_WBITS  # some clients send deflate without zlib's header
    stream = zlib.decompressobj(bits)
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise InvalidArgument(field, f"is not {encoding}: {error}") from error
    if len(content) > limit:
        return content
    if not stream.eof:
        raise InvalidArgument(field, f"is not whole: its {encoding} data ends too early")
    if stream.unused_data:
        more = len(stream.unused_data)
        raise InvalidArgument(field, f"has {more:,} bytes behind the end of its {encoding} data")
    return content


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
    content = decompressed(message, encoding, MAX_MESSAGE_BYTES, "message")
    if len(content) > MAX_MESSAGE_BYTES:
        raise InvalidArgument(
            "message", f"unpacks to more than {MAX_MESSAGE_BYTES:,} bytes, which is the limit"
        )
    return content
