"""HTTP/2 frames and header blocks, byte by byte."""

import pytest
from hpack import Encoder

from mesh_cli.load.wire import http2


def test_frames_are_read_however_they_are_cut() -> None:
    sent = [
        http2.Frame(http2.DATA, http2.END_STREAM, 3, b"hello"),
        http2.Frame(http2.PING, 0, 0, b"12345678"),
        http2.Frame(http2.DATA, 0, 2**31 - 1, b"x" * http2.MAX_FRAME),
    ]
    data = b"".join(http2.frame(*item) for item in sent)
    assert list(http2.FrameReader().feed(data)) == sent
    reader = http2.FrameReader()
    cut = [frame for at in range(0, len(data), 7) for frame in reader.feed(data[at : at + 7])]
    assert cut == sent


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(http2.BadFrame):
        list(http2.FrameReader().feed(http2.frame(0, 0, 1, b"x" * 16_385)))


def test_padding_and_priority_are_taken_off() -> None:
    flags = http2.PADDED | http2.PRIORITY
    padded = http2.Frame(http2.HEADERS, flags, 1, b"\x02" + b"prior" + b"block" + b"\0\0")
    assert http2.content(padded) == b"block"
    assert http2.content(http2.Frame(http2.DATA, http2.PADDED, 1, b"\x00data")) == b"data"


def test_header_blocks_are_understood_by_hpack_and_the_other_way_round() -> None:
    headers = [(":path", "/x"), ("long", "v" * 127), ("longer", "w" * 5000)]
    decoded = http2.HeaderReader().read(http2.header_block(headers))
    assert decoded == {name.encode(): value.encode() for name, value in headers}
    encoder = Encoder()
    encoder.header_table_size = 0
    reader = http2.HeaderReader()
    for _ in range(2):
        block = encoder.encode([("grpc-status", "8"), ("grpc-message", "full")], huffman=True)
        assert reader.read(block) == {b"grpc-status": b"8", b"grpc-message": b"full"}


def test_bytes_that_are_no_header_block_are_refused() -> None:
    with pytest.raises(http2.BadFrame):
        http2.HeaderReader().read(b"\xff\xff\xff")
