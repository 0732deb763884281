"""One gRPC connection against a server that is written frame by frame."""

import asyncio
import struct

import pytest
from hpack import Encoder

from mesh_cli.load.wire import http2
from mesh_cli.load.wire.grpc_connection import Call, GrpcConnection


class Wire(asyncio.Transport):
    """Keeps the frames that were written."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[http2.Frame] = []
        self.closed = False
        self._reader = http2.FrameReader()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.frames += self._reader.feed(bytes(data).removeprefix(http2.PREFACE))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def sent(self, kind: int) -> list[http2.Frame]:
        return [frame for frame in self.frames if frame.kind == kind]


class Client:
    """A connection with its wire and the answers that it reported."""

    def __init__(self, values: dict[int, int]) -> None:
        self.answers: list[tuple[float, str, bytes]] = []
        self.untaken: list[Call] = []
        self.wire = Wire()
        self.connection = GrpcConnection(
            b"head", lambda *answer: self.answers.append(answer), self.untaken.extend
        )
        self.connection.connection_made(self.wire)
        self.connection.data_received(http2.settings(values))

    def start(self, request: bytes = b"x", due: float = 0.0) -> None:
        self.connection.start(Call(request, due, deadline=10.0))

    def receive(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.connection.data_received(http2.frame(kind, flags, stream, payload))

    def trailers(self, stream: int, *headers: tuple[str, str]) -> None:
        encoder = Encoder()
        encoder.header_table_size = 0
        flags = http2.END_HEADERS | http2.END_STREAM
        self.receive(http2.HEADERS, flags, stream, encoder.encode(headers))


async def test_an_answer_in_pieces_is_put_together() -> None:
    client = Client({})
    client.start(due=7.0)
    message = struct.pack(">BI", 0, 5) + b"hello"
    client.receive(http2.HEADERS, http2.END_HEADERS, 1, b"\x88")
    client.receive(http2.DATA, 0, 1, message[:6])
    client.receive(http2.DATA, http2.PADDED, 1, b"\x01" + message[6:] + b"\0")
    assert client.answers == []
    client.trailers(1, ("grpc-status", "0"))
    assert client.answers == [(7.0, "OK", b"hello")]
    assert not client.connection.busy


async def test_trailers_cut_into_a_continuation_are_put_together() -> None:
    client = Client({})
    client.start()
    block = http2.header_block([("grpc-status", "14"), ("grpc-message", "gone%20away")])
    client.receive(http2.HEADERS, http2.END_STREAM, 1, block[:9])
    client.receive(http2.CONTINUATION, http2.END_HEADERS, 1, block[9:])
    assert client.answers == [(0.0, "UNAVAILABLE", b"gone away")]


async def test_calls_beyond_the_last_of_a_goaway_are_given_back() -> None:
    client = Client({})
    for due in (1.0, 2.0, 3.0):
        client.start(due=due)
    client.receive(http2.GOAWAY, 0, 0, struct.pack(">II", 3, 0))
    assert [call.due for call in client.untaken] == [3.0]
    assert not client.connection.has_room
    for stream in (1, 3):
        assert not client.wire.closed
        client.trailers(stream, ("grpc-status", "8"))
    assert [code for _, code, _ in client.answers] == ["RESOURCE_EXHAUSTED"] * 2
    assert client.wire.closed


async def test_a_request_waits_for_the_windows() -> None:
    client = Client({http2.INITIAL_WINDOW_SIZE: 10})
    client.start(b"y" * 15)
    assert [len(frame.payload) for frame in client.wire.sent(http2.DATA)] == [10]
    client.connection.data_received(http2.window_update(1, 4))
    client.connection.data_received(http2.settings({http2.INITIAL_WINDOW_SIZE: 100}))
    data = client.wire.sent(http2.DATA)
    assert b"".join(frame.payload for frame in data) == b"\0\0\0\0\x0f" + b"y" * 15
    assert [frame.flags for frame in data] == [0, 0, http2.END_STREAM]


async def test_no_more_calls_than_the_server_allows() -> None:
    client = Client({http2.MAX_CONCURRENT_STREAMS: 1})
    assert client.connection.has_room
    client.start()
    assert not client.connection.has_room


async def test_pings_and_settings_are_answered() -> None:
    client = Client({})
    client.receive(http2.PING, 0, 0, b"12345678")
    client.receive(http2.PING, http2.ACK, 0, b"87654321")
    assert client.wire.sent(http2.PING) == [http2.Frame(http2.PING, http2.ACK, 0, b"12345678")]
    assert client.wire.sent(http2.SETTINGS)[-1].flags == http2.ACK


async def test_a_call_is_cancelled_when_it_is_out_of_time() -> None:
    client = Client({})
    client.start()
    client.connection.drop_late(9.9)
    assert client.answers == []
    client.connection.drop_late(10.0)
    assert client.answers[0][1] == "DEADLINE_EXCEEDED"
    assert client.wire.sent(http2.RST_STREAM)[0].payload == struct.pack(">I", http2.CANCEL)


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "code"),
    [
        (http2.RST_STREAM, 0, struct.pack(">I", 7), "UNAVAILABLE"),
        (http2.RST_STREAM, 0, struct.pack(">I", 2), "INTERNAL"),
        (http2.RST_STREAM, 0, b"", "INTERNAL"),
        (http2.DATA, http2.END_STREAM, b"", "INTERNAL"),
        (http2.HEADERS, 0x5, b"\x88", "UNKNOWN"),
        (http2.HEADERS, 0x5, b"\xff\xff", "INTERNAL"),
    ],
)
async def test_frames_that_are_no_answer_fail_the_call(
    kind: int, flags: int, payload: bytes, code: str
) -> None:
    client = Client({})
    client.start()
    client.receive(kind, flags, 1, payload)
    assert [reported for _, reported, _ in client.answers] == [code]
