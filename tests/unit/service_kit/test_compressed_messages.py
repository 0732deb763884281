"""Messages that are compressed are unpacked up to the limit and no further."""

import gzip
import random
import tracemalloc
import zlib
from importlib.resources import files
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from mesh.v1.data_pb2 import AddExamplesRequest
from service_kit.decompression import UnpacksToTooMuch, unpacked
from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_MESSAGE_BYTES

MESSAGE = AddExamplesRequest(model="reviews", request_id="a" * 500).SerializeToString()
PACKERS: list[Any] = [gzip.compress, zlib.compress]


@pytest.mark.parametrize("pack", PACKERS)
def test_a_compressed_message_is_unpacked(pack: Any) -> None:
    assert unpacked(pack(MESSAGE)) == MESSAGE
    largest = random.Random(1).randbytes(MAX_MESSAGE_BYTES // 50) * 50
    largest += b" " * (MAX_MESSAGE_BYTES - len(largest))
    assert unpacked(pack(largest)) == largest


def test_other_messages_stay_as_they_are() -> None:
    for message in (b"", MESSAGE, b"\x1f", b"\x78", b"\x78\x00", b"\0\0\0\0"):
        assert unpacked(message) is message


def unsaid(packed: bytes) -> bytes:
    """Gzip data whose end says that it unpacks to 100 bytes."""
    return packed[:-4] + (100).to_bytes(4, "little")


@pytest.mark.parametrize("pack", [*PACKERS, lambda data: unsaid(gzip.compress(data))])
def test_a_bomb_is_refused_before_it_is_unpacked(pack: Any) -> None:
    small, large = pack(b"\0" * (2 * 1024 * 1024)), pack(b"\0" * (60 * 1024 * 1024))
    for bomb, most in ((small, 1024 * 1024), (large, 100 * len(large))):
        tracemalloc.start()
        try:
            with pytest.raises(UnpacksToTooMuch, match="above 1,048,576 at most 100 times"):
                unpacked(bomb)
            assert tracemalloc.get_traced_memory()[1] < 3 * most
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("pack", PACKERS)
def test_no_message_unpacks_to_more_than_the_limit(pack: Any) -> None:
    packed = pack(random.Random(1).randbytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(UnpacksToTooMuch, match="at most 8,388,608 are taken"):
        unpacked(packed)


def test_a_bomb_that_says_its_size_is_not_unpacked_at_all() -> None:
    bomb = gzip.compress(b"\0" * (2 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(UnpacksToTooMuch, match="or unpacks to 2,097,152"):
            unpacked(bomb)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", PACKERS)
def test_what_is_cut_or_broken_is_refused(pack: Any) -> None:
    packed = pack(MESSAGE)
    for broken in (packed[:-3], packed + b"more", packed[:12] + b"\xff" * 8 + packed[20:]):
        with pytest.raises(InvalidArgument):
            unpacked(broken)


def test_no_request_can_begin_as_compressed_data_does() -> None:
    contract = FileDescriptorSet.FromString(files("mesh").joinpath("descriptor.pb").read_bytes())
    requests = {
        method.input_type
        for file in contract.file
        for service in file.service
        for method in service.method
    }
    assert requests
    for file in contract.file:
        for message in file.message_type:
            if f".{file.package}.{message.name}" in requests:
                # zlib's first byte would be this field's tag.
                assert 15 not in {field.number for field in message.field}, message.name
