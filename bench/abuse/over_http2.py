"""Abuses by frames of HTTP/2: floods, resets, held streams, unread answers."""

import asyncio
import gzip
from collections import Counter
from contextlib import suppress

from hpack import Encoder

from bench.abuse import frames
from bench.abuse.over_http1 import PREDICT, PREDICT_JSON
from bench.abuse.target import LISTEN_S, Tally, Target, connection, received
from mesh.v1 import predict_pb2
from tests.real_parts import raw_http2
from tests.real_parts.held_streams import Headers, grpc_head, held_streams, json_head
from tests.real_parts.waiting import until

BODY_BYTES = 7_900_000
BODIES = 70
CONNECTIONS = 4
STREAMS = 256
FRAMES = 5_000
PAUSE_S = 0.05
BOMB = gzip.compress(b"\0" * (60 * 1024 * 1024))
MESSAGE = predict_pb2.PredictRequest(model="reviews", texts=["a"]).SerializeToString()
IMPORT = "/mesh.v1.DataService/ImportExamples"
STREAM = "/mesh.v1.PredictService/PredictStream"
WATCH = "/mesh.v1.TrainService/WatchTraining"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
HEALTH = "/grpc.health.v1.Health/Watch"
TRAILERS = (("x-mesh-role", "challenger"), ("x-mesh-subject", "operator"), ("grpc-timeout", "1n"))


async def _flood(target: Target, tally: Tally, data: bytes, requests: int) -> None:
    """Send bytes over a connection of their own, then listen; the mesh may end it before."""
    tally.requests += requests
    async with connection(target.address) as (reader, writer):
        reading = asyncio.create_task(received(reader, LISTEN_S))
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(LISTEN_S):
                for begin in range(0, len(data), 1 << 16):
                    writer.write(data[begin : begin + (1 << 16)])
                    await writer.drain()
        answer = await reading
        frames.note(answer, tally)
        if not answer:
            tally.got["closed"] += 1
    await asyncio.sleep(PAUSE_S)


async def rapid_reset(target: Target, tally: Tally) -> None:
    """Requests that are reset at once."""
    encoder, data = Encoder(), frames.start()
    for stream in frames.streams(500):
        data += frames.head(encoder, stream, json_head(target.address, PREDICT_JSON), end=False)
        data += frames.frame(frames.RST_STREAM, 0, stream, frames.number(8))
    await _flood(target, tally, data, 500)


async def pings(target: Target, tally: Tally) -> None:
    """Pings that ask for answers."""
    await _flood(
        target, tally, frames.start() + frames.frame(frames.PING, 0, 0, b"a" * 8) * FRAMES, 1
    )


async def settings(target: Target, tally: Tally) -> None:
    """Settings that ask to be acknowledged."""
    await _flood(target, tally, frames.start() + frames.frame(frames.SETTINGS, 0, 0) * FRAMES, 1)


async def priorities(target: Target, tally: Tally) -> None:
    """Priorities of streams that are not there."""
    data = b"".join(
        frames.frame(frames.PRIORITY, 0, stream, frames.number(0) + b"\0")
        for stream in frames.streams(FRAMES)
    )
    await _flood(target, tally, frames.start() + data, 1)


async def no_window(target: Target, tally: Tally) -> None:
    """Windows of flow control that grow by nothing, or beyond their end."""
    head = frames.head(Encoder(), 1, grpc_head(target.address, STREAM), end=False)
    for stream, size in ((0, 0), (1, 0), (1, 2**31 - 1)):
        update = frames.frame(frames.WINDOW_UPDATE, 0, stream, frames.number(size))
        await _flood(target, tally, frames.start() + head + update * 100, 1)


async def empty_frames(target: Target, tally: Tally) -> None:
    """A body of frames without bytes."""
    head = frames.head(Encoder(), 1, json_head(target.address, PREDICT_JSON), end=False)
    await _flood(target, tally, frames.start() + head + frames.frame(frames.DATA, 0, 1) * FRAMES, 1)


async def continuations(target: Target, tally: Tally) -> None:
    """A head that goes on and on."""
    block = Encoder().encode(json_head(target.address, PREDICT_JSON))
    more = Encoder().encode([("a" * 20, "b" * 900)] * 10)
    data = frames.frame(frames.HEADERS, 0, 1, block)
    await _flood(
        target,
        tally,
        frames.start() + data + frames.frame(frames.CONTINUATION, 0, 1, more) * 400,
        1,
    )


async def large_metadata(target: Target, tally: Tally) -> None:
    """Requests with 900 headers, and with headers that unpack to a hundred times their bytes."""
    encoder, data = Encoder(), frames.start()
    many = [(f"a{number}", "b" * 30) for number in range(300)]
    repeated = [("a", "b" * 3_000)] * 600
    for stream in frames.streams(20):
        extra = many if stream % 4 == 1 else repeated
        data += frames.head(encoder, stream, (*grpc_head(target.address, PREDICT), *extra))
    await _flood(target, tally, data, 20)


async def unread_answers(target: Target, tally: Tally) -> None:
    """Requests on connections that take no byte of an answer."""
    encoder, data = Encoder(), frames.start((frames.INITIAL_WINDOW_SIZE, 0))
    body = b'{"texts": ["a"]}'
    for stream in frames.streams(20):
        data += frames.head(encoder, stream, json_head(target.address, PREDICT_JSON), end=False)
        data += frames.frame(frames.DATA, frames.END_STREAM, stream, body)
    await _flood(target, tally, data, 20)


async def _hold(
    target: Target, tally: Tally, head: Headers, first: bytes, size: int, count: int
) -> None:
    """Hold streams on one connection until all of them have ended or the time is over."""
    tally.requests += count
    async with held_streams(target.address) as held:
        try:
            for _ in range(count):
                held.start(head, first, size)
            held.flush()
            await held.closed.wait() if size else await until(lambda: not held.open, 3600)
        finally:
            got: Counter[str] = tally.got
            got.update(f"status {status}" for status in held.statuses.values())
            got["stream ended"] += len(held.reset)
            got["held to the end"] += len(held.open)


async def json_bodies(target: Target, tally: Tally) -> None:
    """70 bodies of 7.9 MB on one connection that never end."""
    head = json_head(target.address, PREDICT_JSON)
    await _hold(target, tally, head, b"", BODY_BYTES, BODIES)


async def grpc_bodies(target: Target, tally: Tally) -> None:
    """The same as messages of gRPC."""
    first = b"\0" + (2 * BODY_BYTES).to_bytes(4, "big")
    await _hold(target, tally, grpc_head(target.address, PREDICT), first, BODY_BYTES, BODIES)


async def _idle(
    target: Target, tally: Tally, path: str, first: bytes = b"", connections: int = CONNECTIONS
) -> None:
    head = grpc_head(target.address, path, (target.bearer,))
    await asyncio.gather(
        *(_hold(target, tally, head, first, 0, STREAMS) for _ in range(connections))
    )
    await asyncio.sleep(PAUSE_S)


async def idle_imports(target: Target, tally: Tally) -> None:
    """1,024 imports that bring nothing."""
    await _idle(target, tally, IMPORT)


async def idle_predict_streams(target: Target, tally: Tally) -> None:
    """1,024 streams of predictions that ask for nothing."""
    await _idle(target, tally, STREAM)


async def idle_watches(target: Target, tally: Tally) -> None:
    """1,024 watchers of one training."""
    await _idle(target, tally, WATCH, b"\0\0\0\0\3\x0a\x011")


async def idle_reflection(target: Target, tally: Tally) -> None:
    """512 streams of reflection, and as many of health."""
    await asyncio.gather(
        _idle(target, tally, REFLECTION, connections=2),
        _idle(target, tally, HEALTH, b"\0\0\0\0\0", connections=2),
    )


async def trailers(target: Target, tally: Tally) -> None:
    """Headers that only Envoy may set, after the body."""
    body = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
    for _ in range(5):
        tally.requests += 1
        fields, _ = await raw_http2.call(target.address, PREDICT, body, trailers=TRAILERS)
        tally.got[f"status {fields.get('grpc-status', fields.get(':status', '?'))}"] += 1
    await asyncio.sleep(PAUSE_S)


async def bombs(target: Target, tally: Tally) -> None:
    """Ten messages at once of 60 KB that unpack to 60 MiB."""
    body = b"\1" + len(BOMB).to_bytes(4, "big") + BOMB
    tally.requests += 10
    calls = (
        raw_http2.call(target.address, PREDICT, body, (("grpc-encoding", "gzip"),))
        for _ in range(10)
    )
    for fields, _ in await asyncio.gather(*calls):
        tally.got[f"status {fields.get('grpc-status', fields.get(':status', '?'))}"] += 1
    await asyncio.sleep(PAUSE_S)
