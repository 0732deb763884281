"""One gRPC call over HTTP/2, written by hand: also what no gRPC library would send."""

import asyncio
from collections.abc import Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

WAIT_S = 60.0
# A body is sent in frames of the least size that every peer takes; it has at most four of them.
_FRAME_BYTES = 16_000
Headers = Sequence[tuple[str, str]]


async def call(
    address: str, path: str, body: bytes, headers: Headers = (), trailers: Headers = ()
) -> tuple[dict[str, str], bytes]:
    """Call; return the answer's headers and trailers together, and its body."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    head = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address))
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))
    connection.send_headers(1, (*head, *grpc, *headers))
    *pieces, last = [
        body[at : at + _FRAME_BYTES] for at in range(0, max(1, len(body)), _FRAME_BYTES)
    ]
    for piece in pieces:
        connection.send_data(1, piece)
    connection.send_data(1, last, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, trailers, end_stream=True)
    fields: dict[str, str] = {}
    received, ended = b"", False
    try:
        async with asyncio.timeout(WAIT_S):
            while not ended:
                writer.write(connection.data_to_send())
                for event in connection.receive_data(await reader.read(65_536)):
                    if isinstance(event, ResponseReceived | TrailersReceived):
                        fields |= {str(name): str(value) for name, value in event.headers or ()}
                    elif isinstance(event, DataReceived):
                        received += event.data or b""
                    ended = ended or isinstance(event, StreamEnded | StreamReset)
    finally:
        writer.close()
    return fields, received
