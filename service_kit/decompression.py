"""Unpacks compressed messages and bodies, no further than a limit."""

import zlib

from service_kit.errors import InvalidArgument

# Encodings by their names in grpc-encoding and Content-Encoding. zlib's header tells whether the
# data is gzip (16 is added to the bits of the window) or deflate.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = tuple(_WINDOW_BITS)


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
