"""Valid loads that equal an abuse which holds what it opens: as many calls, at the same moment.

An abuser that opens 1,024 streams at once costs the mesh at least what 1,024 honest callers cost
who come at once. Each load here sends as many valid calls of the same kind over as many
connections, takes their answers, and then waits like the abuser.
"""

import asyncio
import json

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from bench.abuse import over_http1, over_http2
from bench.abuse.over_http1 import PREDICT, PREDICT_JSON, head
from bench.abuse.over_http2 import IMPORT, MESSAGE, REFLECTION, STREAM
from bench.abuse.target import Tally, Target, Wave, connection
from control_plane.xds.basics.wire import field
from mesh.v1 import data_pb2, train_pb2
from service_kit.unary_over_http1.wire import framed
from tests.real_parts.held_streams import Headers, grpc_head, held_streams, json_head
from tests.real_parts.waiting import until

ANSWERS_S = 60.0
_BODY = json.dumps({"texts": ["a"]}).encode()
_IMPORT = data_pb2.ImportExamplesRequest(examples=[data_pb2.Example(text="a", label="b")])
# The number of a field which no request has: what fills a message up.
_FILLER = 15


async def _calls(
    target: Target, tally: Tally, head: Headers, body: bytes, count: int, more_bytes: int = 0
) -> None:
    """Send so many calls at once over one connection, and wait until all are answered."""
    tally.requests += count
    async with held_streams(target.address) as held:
        for _ in range(count):
            held.start(head, body, more_bytes, end=True)
        held.flush()
        await until(lambda: not held.open, ANSWERS_S)
        tally.got.update(f"status {status}" for status in held.statuses.values())


async def _over_connections(
    target: Target, tally: Tally, path: str, message: bytes, connections: int
) -> None:
    head = grpc_head(target.address, path, (target.bearer,))
    await asyncio.gather(
        *(
            _calls(target, tally, head, framed(message), over_http2.STREAMS)
            for _ in range(connections)
        )
    )


async def _rest() -> None:
    """Wait until the time of the load is over."""
    await asyncio.Event().wait()


def _once(load: Wave) -> Wave:
    """The load, which is not repeated: after it nothing is sent."""

    async def once(target: Target, tally: Tally) -> None:
        await load(target, tally)
        await _rest()

    return once


async def imports(target: Target, tally: Tally) -> None:
    """Imports of one row each."""
    message = _IMPORT.SerializeToString()
    await _over_connections(target, tally, IMPORT, message, over_http2.CONNECTIONS)


async def predict_streams(target: Target, tally: Tally) -> None:
    """Streams that ask for one prediction each."""
    await _over_connections(target, tally, STREAM, MESSAGE, over_http2.CONNECTIONS)


async def looks_at_a_training(target: Target, tally: Tally) -> None:
    """Calls that read one training."""
    message = train_pb2.GetTrainingRequest(id="1").SerializeToString()
    path = "/mesh.v1.TrainService/GetTraining"
    await _over_connections(target, tally, path, message, over_http2.CONNECTIONS)


async def reflection_and_health(target: Target, tally: Tally) -> None:
    """Streams of reflection that list the services, and as many checks of health."""
    services = reflection_pb2.ServerReflectionRequest(list_services="")
    health = health_pb2.HealthCheckRequest()
    half = over_http2.CONNECTIONS // 2
    await asyncio.gather(
        _over_connections(target, tally, REFLECTION, services.SerializeToString(), half),
        _over_connections(
            target, tally, "/grpc.health.v1.Health/Check", health.SerializeToString(), half
        ),
    )


async def json_bodies(target: Target, tally: Tally) -> None:
    """Predictions of one text by JSON, whose bodies are filled up with blanks."""
    head, count = json_head(target.address, PREDICT_JSON), over_http2.BODIES
    await _calls(target, tally, head, _BODY, count, over_http2.BODY_BYTES - len(_BODY))


async def grpc_bodies(target: Target, tally: Tally) -> None:
    """Predictions of one text by gRPC, filled up with a field that nobody knows."""
    size = over_http2.BODY_BYTES
    message = MESSAGE + field(_FILLER, bytes(size))[:-size]
    first = b"\0" + (len(message) + size).to_bytes(4, "big") + message
    head = grpc_head(target.address, PREDICT)
    await _calls(target, tally, head, first, over_http2.BODIES, size)


async def new_connections(target: Target, tally: Tally) -> None:
    """Predictions of one text by JSON, each over a connection of its own."""
    request = head("POST", PREDICT_JSON, f"content-length: {len(_BODY)}") + _BODY
    async with asyncio.TaskGroup() as group:
        for _ in range(over_http1.CONNECTIONS):
            group.create_task(_one(target.address, request, tally))


async def _one(address: str, request: bytes, tally: Tally) -> None:
    tally.requests += 1
    async with connection(address) as (reader, writer):
        writer.write(request)
        async with asyncio.timeout(ANSWERS_S):
            status = (await reader.readline()).split(b" ")
        tally.got[status[1].decode() if len(status) > 1 else "closed"] += 1
        await _rest()


VALID_LOADS: dict[str, Wave] = {
    over_http1.half_heads.__name__: new_connections,
    over_http1.slow_bodies.__name__: new_connections,
    over_http1.idle_connections.__name__: new_connections,
    over_http2.json_bodies.__name__: _once(json_bodies),
    over_http2.grpc_bodies.__name__: _once(grpc_bodies),
    over_http2.idle_imports.__name__: _once(imports),
    over_http2.idle_predict_streams.__name__: _once(predict_streams),
    over_http2.idle_watches.__name__: _once(looks_at_a_training),
    over_http2.idle_reflection.__name__: _once(reflection_and_health),
}
