"""HTTP/1.1 responses, byte by byte."""

import pytest

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
