"""Reflection of the public services: whoever asks is told of these and of no other.

grpcio's own servicer hands out every descriptor that the process has loaded, whatever services it
is told to list; so it gets a pool that holds the public ones alone.
"""

from collections.abc import AsyncIterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service_kit.callers.shares import Shares

Context = aio.ServicerContext[Any, Any]

_ALWAYS = ("grpc.health.v1.Health", reflection.SERVICE_NAME)
# Streams at a time: of one caller, and of all. A tool has one, for a moment.
STREAMS_OF_A_CALLER, STREAMS = 16, 256
# grpcio has v1alpha only; v1 has the same messages under another service name.
_SERVICES = (
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.reflection.v1.ServerReflection",
)


def add_reflection(server: aio.Server, names: Sequence[str]) -> None:
    """Let `server` tell of those of the services `names` that are public."""
    pool = _public()
    listed = [name for name in names if _has(pool, name)]
    # The type stubs do not know that its method is a generator.
    servicer: Any = reflection.aio.ReflectionServicer([*listed, *_ALWAYS], pool=pool)
    streams = Shares("streams of reflection", STREAMS_OF_A_CALLER, STREAMS)

    async def tell(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        with streams.held(context):
            async for answer in servicer.ServerReflectionInfo(requests, context):
                yield answer

    for service in _SERVICES:
        handler: Any = grpc.stream_stream_rpc_method_handler(
            tell,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler}),)
        )


@cache
def _public() -> DescriptorPool:
    pool = DescriptorPool()
    contract = files("mesh").joinpath("descriptor.pb").read_bytes()
    for file in FileDescriptorSet.FromString(contract).file:
        pool.Add(file)
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool


def _has(pool: DescriptorPool, service: str) -> bool:
    try:
        pool.FindServiceByName(service)
    except KeyError:
        return False
    return True
