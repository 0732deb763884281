"""The part of protobuf's wire format that puts a message together from encoded parts.

A change of the fleet has to reach Envoy within a few milliseconds, and encoding whole messages in
Python would take as long again.
"""


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field: a string, bytes or a message. `number` is below 16."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
