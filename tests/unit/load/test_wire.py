"""HTTP/1.1 responses and HTTP/2 frames, byte by byte."""

import pytest
from hpack import Encoder

from mesh_cli.load.wire import http2
from mesh_cli.load.wire.http_response import BadResponse, Response, ResponseReader

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 503 Away\r\ntransfer-encoding: gzip, chunked\r\nconnection: Close\r\n\r\n"
    b"3;name=value\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (LENGTH, Response(200, b"hello", True)),
        (CHUNKED, Response(503, b"hello", False)),
        (b"HTTP/1.1 204 None\r\n\r\n", Response(204, b"", True)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, Response(200, b"hello", True)),
        (LENGTH.replace(b"1.1", b"1.0"), Response(200, b"hello", False)),
    ],
)
def test_responses_are_read_however_they_are_cut(data: bytes, expected: Response) -> None:
    assert ResponseReader().feed(data) == expected
    reader = ResponseReader()
    for at in range(len(data) - 1):
        assert reader.feed(data[at : at + 1]) is None
    assert reader.feed(data[-1:]) == expected
    if expected.keep_alive:
        assert reader.feed(LENGTH) == Response(200, b"hello", True)


def test_a_response_without_a_length_ends_with_its_connection() -> None:
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert reader.feed(b"lo") is None
    assert reader.end() == Response(200, b"hello", False)
    assert reader.end() is None


@pytest.mark.parametrize("data", [LENGTH, LENGTH.replace(b"1.1", b"1.0"), CHUNKED])
def test_the_end_of_the_connection_completes_no_response_with_a_length(data: bytes) -> None:
    for size in range(len(data)):
        reader = ResponseReader()
        assert reader.feed(data[:size]) is None
        assert reader.end() is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
)
def test_bytes_that_are_no_response_are_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader().feed(data)


@pytest.mark.parametrize("surplus", [b"more", b"HTTP/1.1 200", LENGTH, LENGTH[:-2]])
@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CHUNKED.replace(b"Close", b"keep-alive")])
def test_bytes_after_the_end_of_a_response_are_refused(answer: bytes, surplus: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader().feed(answer + surplus)
    reader = ResponseReader()
    reader.feed(answer[:-1])
    with pytest.raises(BadResponse):
        reader.feed(answer[-1:] + surplus)


def test_frames_are_read_however_they_are_cut() -> None:
    sent = [
        http2.Frame(http2.DATA, http2.END_STREAM, 3, b"hello"),
        http2.Frame(http2.PING, 0, 0, b"12345678"),
        http2.Frame(http2.DATA, 0, 2**31 - 1, b"x" * http2.MAX_FRAME),
    ]
    data = b"".join(http2.frame(*item) for item in sent)
    assert list(http2.FrameReader().feed(data)) == sent
    reader = http2.FrameReader()
    cut = [found for at in range(0, len(data), 7) for found in reader.feed(data[at : at + 7])]
    assert cut == sent


def test_a_frame_beyond_the_limit_is_told() -> None:
    with pytest.raises(http2.BadFrame):
        list(http2.FrameReader().feed(http2.frame(0, 0, 1, b"x" * 16_385)))


def test_padding_and_priority_are_taken_off() -> None:
    flags = http2.PADDED | http2.PRIORITY
    padded = http2.Frame(http2.HEADERS, flags, 1, b"\x02" + b"prior" + b"block" + b"\0\0")
    assert http2.content(padded) == b"block"
    assert http2.content(http2.Frame(http2.DATA, http2.PADDED, 1, b"\x00data")) == b"data"


def test_header_blocks_are_understood_by_hpack_and_the_other_way_round() -> None:
    headers = [(":path", "/x"), ("long", "v" * 127), ("longer", "w" * 5000)]
    found = http2.HeaderReader().read(http2.header_block(headers))
    assert found == {name.encode(): value.encode() for name, value in headers}
    encoder = Encoder()
    encoder.header_table_size = 0
    reader = http2.HeaderReader()
    for _ in range(2):
        block = encoder.encode([("grpc-status", "8"), ("grpc-message", "full")], huffman=True)
        assert reader.read(block) == {b"grpc-status": b"8", b"grpc-message": b"full"}


def test_a_header_block_that_is_none_is_told() -> None:
    with pytest.raises(http2.BadFrame):
        http2.HeaderReader().read(b"\xff\xff\xff")
