"""Whole loads against real servers on the loopback interface."""

import asyncio
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from mesh.v1 import predict_pb2
from mesh_cli.errors import CliError, NotUp
from mesh_cli.load import (
    ClosedLoop,
    Event,
    LoadResult,
    LoadSpec,
    OpenLoop,
    Server,
    generate,
    run_load,
)
from mesh_cli.load.results.recorder import Recorder
from mesh_cli.load.results.result_file import result_from_json, result_to_json
from tests.unit.load.load_servers import (
    ANSWER,
    HELD_ANSWER,
    HELD_JSON_ANSWER,
    JSON_ANSWER,
    Stall,
    always,
    always_json,
    grpc_server,
    http_server,
    response,
)

SERVER = Server("3", "Champion", "replica-1")


def _spec(address: str, loop: OpenLoop | ClosedLoop, **fields: object) -> LoadSpec:
    defaults: dict[str, object] = {
        "texts": ("one", "two", "three"), "duration_s": 0.2, "warm_up_s": 0.05
    }  # fmt: skip
    return LoadSpec(address, "reviews", loop, **{**defaults, **fields})  # type: ignore[arg-type]


async def test_open_loop_sends_rate_times_duration_and_names_who_answered() -> None:
    async with grpc_server() as address:
        result = await generate(_spec(address, OpenLoop(200)))
    assert result.sent() == 40
    assert len(result.due) == 50
    assert result.errors() == {}
    assert result.served() == [(SERVER, 40)]
    gaps = [b - a for a, b in pairwise(sorted(result.due))]
    assert gaps == pytest.approx([0.005] * 49)


async def test_open_loop_over_json() -> None:
    async with http_server() as address:
        result = await generate(_spec(address, OpenLoop(200), protocol="json"))
    assert (result.sent(), result.errors(), result.served()) == (40, {}, [(SERVER, 40)])


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_a_stall_is_seen_by_every_request_that_it_held_up(protocol: str) -> None:
    stall = Stall(at=40, seconds=0.3)

    async def slow(number: int, request: bytes, context: object) -> bytes:
        held_back = await stall.wait(number)
        return (HELD_ANSWER if held_back else ANSWER).SerializeToString()

    async def slow_json(number: int) -> bytes:
        return response(HELD_JSON_ANSWER if await stall.wait(number) else JSON_ANSWER)

    async with grpc_server(slow) if protocol == "grpc" else http_server(slow_json) as address:
        result = await generate(
            _spec(address, OpenLoop(200), protocol=protocol, duration_s=1.0, warm_up_s=0.0)
        )
    assert result.sent() == 200
    # The server marks the requests that it held up: on a busy machine the times do not tell.
    held = [one for one in result.requests() if one.server and one.server.replica == "held"]
    assert held
    # The latency of each counts from when it was due, whenever it could be sent.
    assert all(request.due + request.latency_s > stall.end - 0.001 for request in held)


async def test_requests_without_a_free_connection_are_late_not_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh_cli.load.wire.http_pool.MAX_CONNECTIONS", 1)

    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.02)
        return response()

    async with http_server(slow) as address:
        result = await generate(_spec(address, OpenLoop(200), protocol="json", warm_up_s=0.0))
    assert result.sent() == 40
    assert max(result.latencies()) > 0.5


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_a_closed_loop_has_one_request_in_flight_for_each_client(protocol: str) -> None:
    in_flight, most = 0, 0

    async def count() -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.01)
        in_flight -= 1

    async def counted(number: int, request: bytes, context: object) -> bytes:
        await count()
        return await always(number, request, context)

    async def counted_json(number: int) -> bytes:
        await count()
        return await always_json(number)

    async with grpc_server(counted) if protocol == "grpc" else http_server(counted_json) as address:
        result = await generate(_spec(address, ClosedLoop(5), protocol=protocol))
    assert most == 5
    assert result.throughput() <= 500
    assert result.errors() == {}


async def test_errors_are_counted_by_code_over_grpc() -> None:
    async def refuse(
        number: int, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        if number % 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full – ½")
        return ANSWER.SerializeToString()

    async with grpc_server(refuse) as address:
        result = await generate(_spec(address, OpenLoop(200), warm_up_s=0.0))
    assert result.errors() == {"RESOURCE_EXHAUSTED": 20}
    assert result.messages == {"RESOURCE_EXHAUSTED": "the queue is full – ½"}
    assert len(result.latencies()) == 20
    assert sum(second["errors"] for second in result.timeline()) == 20


async def test_errors_are_counted_by_code_over_json() -> None:
    async def refuse(number: int) -> bytes:
        return (response(), response(b'{"code": 8}', 429), b"", b"SSH-2.0\r\n\r\n")[number % 4]

    async with http_server(refuse) as address:
        result = await generate(
            _spec(address, OpenLoop(200), protocol="json", duration_s=0.2, warm_up_s=0.0)
        )
    assert result.errors() == {"HTTP 429": 10, "connection closed": 10, "bad response": 10}
    assert result.messages["HTTP 429"] == '{"code": 8}'


@pytest.mark.parametrize(("protocol", "code"), [("grpc", "DEADLINE_EXCEEDED"), ("json", "timeout")])
async def test_a_request_without_an_answer_is_out_of_time(protocol: str, code: str) -> None:
    async def never(*_: object) -> bytes:
        await asyncio.sleep(30)
        return b""

    async with grpc_server(never) if protocol == "grpc" else http_server(never) as address:
        result = await generate(
            _spec(address, ClosedLoop(2), protocol=protocol, timeout_s=0.1, warm_up_s=0.0)
        )
    assert set(result.errors()) == {code}
    assert all(0.09 < seconds < 10 for seconds in result.latency)


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_requests_to_a_server_that_is_away_fail_and_later_ones_succeed(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, asyncio.Event] = {True: asyncio.Event(), False: asyncio.Event()}

    class Watched(Recorder):
        def answered(self, due: float, code: str, body: bytes) -> None:
            super().answered(due, code, body)
            seen[code == "OK"].set()

    monkeypatch.setattr("mesh_cli.load.generator.Recorder", Watched)
    server = grpc_server if protocol == "grpc" else http_server
    async with server() as address:
        spec = _spec(address, OpenLoop(200), protocol=protocol, duration_s=2.0, warm_up_s=0.0)
        load = asyncio.create_task(generate(spec))
        await seen[True].wait()
    await seen[False].wait()
    async with server(port=int(address.rpartition(":")[2])):
        result = await load
    failed = sum(result.errors().values())
    assert 0 < failed < result.sent()
    # A gRPC server that is stopped without grace cancels what it has begun.
    away = {"UNAVAILABLE", "CANCELLED", "connection refused", "connection closed"}
    assert set(result.errors()) <= away
    last = max(result.requests(), key=lambda request: request.due)
    assert last.code == "OK"


@pytest.mark.parametrize("protocol", ["grpc", "json"])
async def test_no_server_is_not_up(protocol: str) -> None:
    with pytest.raises(NotUp, match=r"127\.0\.0\.1:1 does not answer"):
        await generate(_spec("127.0.0.1:1", ClosedLoop(1), protocol=protocol))


async def test_large_requests_and_answers_fit_through_the_windows() -> None:
    """Both are far above HTTP/2's first window of 64 KiB."""
    sizes = set()

    async def large(number: int, request: bytes, context: object) -> bytes:
        sizes.add(len(predict_pb2.PredictRequest.FromString(request).texts[0]))
        big = predict_pb2.PredictResponse()
        big.CopyFrom(ANSWER)
        big.predictions[0].label = "x" * 1_000_000
        return big.SerializeToString()

    async with grpc_server(large) as address:
        result = await generate(
            _spec(address, ClosedLoop(4), texts=("y" * 300_000,), duration_s=0.3, channels=2)
        )
    assert sizes == {300_000}
    assert result.errors() == {}
    assert {who for who, _ in result.served()} == {SERVER}


async def test_chunked_answers_are_read() -> None:
    async def chunked(number: int) -> bytes:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        cut = len(JSON_ANSWER) // 2
        parts = (JSON_ANSWER[:cut], JSON_ANSWER[cut:], b"")
        return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)

    async with http_server(chunked) as address:
        result = await generate(_spec(address, OpenLoop(200), protocol="json"))
    assert result.served() == [(SERVER, 40)]


async def test_a_connection_that_the_server_ends_is_replaced() -> None:
    async def once(number: int) -> bytes:
        return response(extra="Connection: close\r\n")

    async with http_server(once) as address:
        result = await generate(_spec(address, ClosedLoop(3), protocol="json", duration_s=0.3))
    assert result.errors() == {}
    assert result.sent() > 10


def _moments(result: LoadResult) -> list[float]:
    """When requests were due, seconds after the begin."""
    return sorted(due - result.begin for due in result.due)


async def test_a_child_process_makes_the_same_load() -> None:
    async with grpc_server() as address:
        spec = _spec(address, OpenLoop(100, "poisson", seed=7))
        here = await generate(spec)
        there = await asyncio.to_thread(run_load, spec)
    assert _moments(there) == pytest.approx(_moments(here))
    assert there.load == here.load
    assert there.served() == here.served() == [(SERVER, here.sent())]
    assert there.generator.cpu_s > 0


async def test_a_result_survives_json() -> None:
    async with grpc_server() as address:
        result = await generate(_spec(address, OpenLoop(100)))
    result = result.with_events([Event("reload", result.begin, result.end, detail="1 → 2")])
    assert result_from_json(result_to_json(result)) == result


async def test_the_error_of_a_child_process_is_raised() -> None:
    with pytest.raises(NotUp, match="does not answer gRPC"):
        await asyncio.to_thread(run_load, _spec("127.0.0.1:1", ClosedLoop(1)))


async def test_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mesh_cli.load.results.plot import draw

    async with grpc_server() as address:
        result = await generate(_spec(address, OpenLoop(200)))
    result = result.with_events([Event("reload", result.begin + 0.1, result.begin + 0.2)])
    draw(result, tmp_path / "plot.png", "reviews")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CliError, match="No such file"):
        draw(result, tmp_path / "nowhere" / "plot.png", "reviews")
