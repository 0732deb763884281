"""Every method at every door, found from the contract, and one call of each with any token."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio

from control_plane.access.rules import Scope
from control_plane.xds.access.method_scopes import SCOPE_OF
from control_plane.xds.basics.contract_paths import contract_paths, descriptor
from control_plane.xds.routes.known_paths import known_paths
from inference import open_inference_pb2
from mesh.v1 import data_pb2, predict_pb2, reload_pb2, train_pb2

MODEL = "reviews"
_GRPC, _WEB, _JSON, _V2 = "gRPC", "gRPC-Web", "JSON", "/v2"


@dataclass(frozen=True)
class Way:
    """One way to call one method."""

    door: str
    method: str
    """Path over gRPC; of /v2 the path over HTTP."""

    verb: str
    path: str
    message: bytes = b""
    """What is sent over gRPC and gRPC-Web: it names MODEL where it can."""

    names_model: bool = False

    @property
    def scope(self) -> Scope:
        """The scope that it asks for."""
        return Scope.PREDICT if self.door == _V2 else SCOPE_OF[self.method]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    unauthenticated: bool
    denied: bool
    words: str

    @property
    def refused(self) -> bool:
        """Refused for the caller's sake."""
        return self.unauthenticated or self.denied

    def __str__(self) -> str:
        return "401" if self.unauthenticated else "403" if self.denied else "answered"


def ways() -> Iterator[Way]:
    """Yield every way to call every method."""
    named = _messages_that_name_the_model()
    for method in SCOPE_OF:
        message = named.get(method, b"")
        yield Way(_GRPC, method, "POST", method, message, bool(message))
        yield Way(_WEB, method, "POST", method, message, bool(message))
    for path in contract_paths(FileDescriptorSet.FromString(descriptor())):
        filled = path.template.replace("{model}", MODEL).replace("{id}", "1")
        names_model = "{model}" in path.template
        yield Way(_JSON, path.method, path.verb, filled, names_model=names_model)
    for known in known_paths():
        for pattern in known.pattern.split("|"):
            if pattern.startswith("/v2"):
                plain = pattern.replace("[^/:]+", MODEL).replace("\\", "")
                names_model = "/models/" in plain
                yield Way(_V2, plain, known.methods[0], plain, names_model=names_model)


def _messages_that_name_the_model() -> dict[str, bytes]:
    """Messages of the methods whose request has a place for a model's name, by method."""
    found = {}
    for file in (data_pb2, predict_pb2, reload_pb2, train_pb2, open_inference_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if message := _named(method.input_type):
                    found[f"/{service.full_name}/{method.name}"] = message
    return found


def _named(kind: Descriptor) -> bytes:
    message: Any = GetMessageClass(kind)()
    target = message.header if "header" in kind.fields_by_name else message
    for name in ("model", "model_name", "name"):
        if name in target.DESCRIPTOR.fields_by_name:
            setattr(target, name, MODEL)
            encoded: bytes = message.SerializeToString()
            return encoded
    return b""


async def call(
    http: httpx.AsyncClient, channel: aio.Channel, way: Way, token: str | None
) -> Answer:
    """Call with a token; None: without one."""
    authorization = {} if token is None else {"authorization": f"Bearer {token}"}
    if way.door == _GRPC:
        return await _over_grpc(channel, way, authorization)
    if way.door == _WEB:
        return await _over_grpc_web(http, way, authorization)
    content = "{}" if way.verb in ("POST", "PUT") else None
    headers = authorization | ({"content-type": "application/json"} if content else {})
    async with http.stream(way.verb, way.path, content=content, headers=headers) as answer:
        refused = answer.status_code in (401, 403)
        body = (await answer.aread()).decode() if refused else ""
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
        if refused:
            assert answer.headers["content-type"] == "application/json"
            assert ('"error"' in body) == (way.door == _V2), body
        return Answer(answer.status_code == 401, answer.status_code == 403, body)


async def _over_grpc(channel: aio.Channel, way: Way, authorization: dict[str, str]) -> Answer:
    # One message and a stream of answers: on the wire every kind of method can be called so.
    stream: Any = channel.unary_stream(way.path, bytes, bytes)(
        way.message, metadata=tuple(authorization.items()), timeout=20
    )
    code, words = StatusCode.OK, ""
    try:
        await stream.read()
    except aio.AioRpcError as error:
        code, words = error.code(), error.details() or ""
    stream.cancel()
    return Answer(code is StatusCode.UNAUTHENTICATED, code is StatusCode.PERMISSION_DENIED, words)


async def _over_grpc_web(
    http: httpx.AsyncClient, way: Way, authorization: dict[str, str]
) -> Answer:
    headers = authorization | {"content-type": "application/grpc-web+proto"}
    frame = struct.pack(">BI", 0, len(way.message)) + way.message
    async with http.stream("POST", way.path, content=frame, headers=headers) as answer:
        code = answer.headers.get("grpc-status", "")
        return Answer(code == "16", code == "7", answer.headers.get("grpc-message", ""))
