"""Small gRPC and HTTP servers, whose answers the tests choose."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from mesh.v1 import predict_pb2
from mesh_cli.load.wire.request_encoding import GRPC_METHOD

ANSWER = predict_pb2.PredictResponse(
    predictions=[predict_pb2.Prediction(label="positive", score=0.9)],
    model=predict_pb2.ServedModel(name="reviews", version="3", alias="Champion"),
    replica="replica-1",
)
JSON_ANSWER = json.dumps(
    {"model": {"name": "reviews", "version": "3", "alias": "Champion"}, "replica": "replica-1"}
).encode()

# The same answers from a replica whose name says that it held the request back.
HELD_ANSWER = predict_pb2.PredictResponse(
    predictions=ANSWER.predictions, model=ANSWER.model, replica="held"
)
HELD_JSON_ANSWER = JSON_ANSWER.replace(b"replica-1", b"held")

# Takes the number of the request (from 0), its bytes and the call; returns the answer's bytes.
GrpcHandler = Callable[[int, bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]
# Takes the number of the request; returns the HTTP response, or nothing to close the connection.
HttpHandler = Callable[[int], Awaitable[bytes]]
# Serves one connection; when it returns, the connection is closed.
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def always(number: int, request: bytes, context: object) -> bytes:
    """Answer at once."""
    return ANSWER.SerializeToString()


@asynccontextmanager
async def grpc_server(handler: GrpcHandler = always, port: int = 0) -> AsyncIterator[str]:
    """host:port of a server that answers Predict by `handler`."""
    numbers = iter(range(1 << 30))

    async def predict(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return await handler(next(numbers), request, context)

    service, _, method = GRPC_METHOD[1:].partition("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                service, {method: grpc.unary_unary_rpc_method_handler(predict)}
            )
        ]
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def response(body: bytes = JSON_ANSWER, status: int = 200, extra: str = "") -> bytes:
    """A response with a content-length."""
    head = f"HTTP/1.1 {status} Something\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def always_json(number: int) -> bytes:
    """Answer at once."""
    return response()


@asynccontextmanager
async def tcp_server(serve: Serve, port: int = 0) -> AsyncIterator[str]:
    """host:port of a server that serves each connection by `serve` and then closes it."""
    serving: set[asyncio.Task[None]] = set()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            serving.discard(task)
            writer.close()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", port)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving)


@asynccontextmanager
async def http_server(handler: HttpHandler = always_json, port: int = 0) -> AsyncIterator[str]:
    """host:port of a server that answers each request by `handler`."""
    numbers = iter(range(1 << 30))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            answer = await handler(next(numbers))
            if not answer:
                return
            writer.write(answer)

    async with tcp_server(serve, port) as address:
        yield address


class Stall:
    """Holds a server up once, for `seconds` from the request with the number `at` on."""

    def __init__(self, at: int, seconds: float) -> None:
        self._at = at
        self._seconds = seconds
        self.begin = 0.0
        """When it began, seconds of time.monotonic()."""
        self.end = 0.0

    async def wait(self, number: int) -> bool:
        """Hold back a request that falls into the stall; return whether it did."""
        if number == self._at:
            self.begin = time.monotonic()
            self.end = self.begin + self._seconds
        left = self.end - time.monotonic()
        await asyncio.sleep(max(0.0, left))
        return left > 0
