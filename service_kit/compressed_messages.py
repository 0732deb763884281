"""Unpacks messages that gRPC compressed, no further than the limit of a message.

grpcio unpacks a message whole before anyone can look at its size, and 1 MB of gzip may hold 1 GB.
So the servers have it hand over what came (`GRPC_AS_IT_CAME`), and unpack by themselves.
"""

from service_kit.decompression import decompressed
from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_MESSAGE_BYTES

GRPC_AS_IT_CAME = ("grpc.per_message_decompression", 0)
# grpcio does not tell whether a message is compressed. No message begins with gzip's first bytes,
# which are no tag of protobuf; zlib's would be the number 15 of a field, which no request has.
_GZIP = b"\x1f\x8b\x08"
_ZLIB = b"\x78"
_ZLIB_CHECK = 31  # the first two bytes, as one number, can be divided by it


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
