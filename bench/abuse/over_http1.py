"""Abuses by bytes of HTTP/1.1: wrong methods, half heads, slow bodies, many connections."""

import asyncio
import json
from collections.abc import Iterable

from bench.abuse.target import Tally, Target, connection, received

PREDICT = "/mesh.v1.PredictService/Predict"
PREDICT_JSON = "/v1/models/reviews:predict"
METHODS = ("PUT", "HEAD", "OPTIONS", "PATCH", "DELETE", "BREW")
# Connections that one caller holds open.
CONNECTIONS = 300
BODY_BYTES = 7_900_000
DEPTH = 3_000_000
HEAD_BYTES = 20_000_000
INVENTED = 100
PAUSE_S = 0.2


def head(method: str, path: str, *headers: str) -> bytes:
    """The head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", "")).encode()


async def _exchange(address: str, data: bytes, tally: Tally, seconds: float = 1.0) -> None:
    """Send bytes over a connection of their own; note the status or that the mesh closed it."""
    tally.requests += 1
    async with connection(address) as (reader, writer):
        try:
            writer.write(data)
            async with asyncio.timeout(seconds):
                await writer.drain()
                status = (await reader.readline()).split(b" ")
            tally.got[status[1].decode() if len(status) > 1 else "closed"] += 1
        except TimeoutError:
            tally.got["nothing"] += 1
        except OSError:
            tally.got["closed"] += 1


async def wrong_methods(target: Target, tally: Tally) -> None:
    """Other methods than POST as the first request of a connection to a gRPC method."""
    for method in METHODS:
        await _exchange(
            target.address, head(method, PREDICT, "content-type: application/grpc"), tally
        )
    await asyncio.sleep(PAUSE_S / 10)


async def foreign_pages(target: Target, tally: Tally) -> None:
    """What a page of another site lets its visitor's browser send."""
    for path in (PREDICT_JSON, "/v1/models/reviews:train", "/v1/models/reviews/examples"):
        for header in ("origin: https://evil.example", "x-forwarded-host: evil.example"):
            request = head("POST", path, header, "content-type: text/plain", "content-length: 2")
            await _exchange(target.address, request + b"{}", tally)
    await asyncio.sleep(PAUSE_S / 10)


async def tampered_tokens(target: Target, tally: Tally) -> None:
    """Tokens whose signature does not hold."""
    begin, _, _ = target.token.rpartition(".")
    headers = (f"authorization: Bearer {begin}.{'A' * 86}", "content-length: 2")
    for _ in range(20):
        await _exchange(target.address, head("POST", PREDICT_JSON, *headers) + b"{}", tally)
    await asyncio.sleep(PAUSE_S / 10)


async def invented_methods(target: Target, tally: Tally) -> None:
    """Names of methods that nobody has, each another one."""
    async with connection(target.address) as (reader, writer):
        first = tally.requests
        for number in range(first, first + INVENTED):
            kind = ("application/grpc", "application/grpc-web")[number % 2]
            path = f"/mesh.v1.PredictService/Invented{number}"
            writer.write(head("POST", path, f"content-type: {kind}", "content-length: 0"))
            tally.requests += 1
        answers = (await received(reader, 0.5)).split(b"HTTP/1.1 ")[1:]
        tally.got.update(answer[:3].decode() for answer in answers)


async def deep_json(target: Target, tally: Tally) -> None:
    """A body of brackets in brackets."""
    body = b'{"texts": ' + b"[" * DEPTH
    request = head("POST", PREDICT_JSON, f"content-length: {len(body)}")
    await _exchange(target.address, request + body, tally, 5.0)
    await asyncio.sleep(PAUSE_S)


async def two_lengths(target: Target, tally: Tally) -> None:
    """Requests whose end a proxy and a service may see at different places."""
    inner = head("POST", "/v1/models/reviews:rollback", "content-length: 0")
    for headers in (
        (f"content-length: {len(inner) + 5}", "transfer-encoding: chunked"),
        ("content-length: 5", f"content-length: {len(inner)}"),
        ("transfer-encoding: chunked", "transfer-encoding: identity"),
    ):
        request = head("POST", PREDICT_JSON, *headers)
        await _exchange(target.address, request + b"0\r\n\r\n" + inner, tally)
    await asyncio.sleep(PAUSE_S / 10)


async def large_heads(target: Target, tally: Tally) -> None:
    """Heads of 20 MB, at Envoy and at a replica's own port."""
    for address in (target.address, target.replica):
        await _exchange(address, b"GET /" + b"a" * HEAD_BYTES, tally, 5.0)
    await asyncio.sleep(PAUSE_S)


async def _held(address: str, first: bytes, pieces: Iterable[bytes], tally: Tally) -> None:
    """One connection that sends `first`, and a piece each half second until the mesh closes it."""
    tally.requests += 1
    async with connection(address) as (reader, writer):
        reading, outcome = asyncio.create_task(received(reader, 3600)), "held to the end"
        try:
            writer.write(first)
            for piece in pieces:
                done, _ = await asyncio.wait({reading}, timeout=0.5)
                if done:
                    break
                writer.write(piece)
            answer = await reading
            outcome = answer[9:12].decode() if answer.startswith(b"HTTP/1.1") else "closed"
        except ConnectionError:
            outcome = "closed"
        finally:
            tally.got[outcome] += 1
            reading.cancel()


async def _many(address: str, first: bytes, piece: bytes, tally: Tally) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            pieces = (piece for _ in range(10_000))
            group.create_task(_held(address, first, pieces, tally))


async def half_heads(target: Target, tally: Tally) -> None:
    """Heads that come byte by byte and never end (Slowloris)."""
    await _many(target.address, b"POST / HTTP/1.1\r\nhost: localhost\r\na: ", b"a", tally)


async def slow_bodies(target: Target, tally: Tally) -> None:
    """Bodies of JSON that come byte by byte."""
    first = head("POST", PREDICT_JSON, f"content-length: {BODY_BYTES}") + b'{"texts": ["'
    await _many(target.address, first, b"a", tally)


async def idle_connections(target: Target, tally: Tally) -> None:
    """Connections that say nothing."""
    await _many(target.address, b"", b"", tally)


async def slow_readers(target: Target, tally: Tally) -> None:
    """Many predictions on each connection, whose answers nobody reads."""
    body = json.dumps({"texts": ["a"]}).encode()
    request = head("POST", PREDICT_JSON, f"content-length: {len(body)}") + body
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(_unread(target.address, request * 20, tally))


async def _unread(address: str, data: bytes, tally: Tally) -> None:
    async with connection(address) as (_, writer):
        writer.write(data)
        tally.requests += 20
        tally.got["nothing"] += 20
        await asyncio.sleep(1)
