"""Every method at every door, found from the contract, and one call of each with any token."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc import StatusCode, aio

from control_plane.access.rules import Scope
from control_plane.xds.access.method_scopes import SCOPE_OF
from control_plane.xds.basics.contract_paths import contract_paths, descriptor
from control_plane.xds.routes.known_paths import known_paths

_FRAME = struct.pack(">BI", 0, 0)
_GRPC, _WEB, _JSON, _V2 = "gRPC", "gRPC-Web", "JSON", "/v2"


@dataclass(frozen=True)
class Way:
    """One way to call one method."""

    door: str
    method: str
    """Path over gRPC; of /v2 the path over HTTP."""

    verb: str
    path: str

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
    for method in SCOPE_OF:
        yield Way(_GRPC, method, "POST", method)
        yield Way(_WEB, method, "POST", method)
    for path in contract_paths(FileDescriptorSet.FromString(descriptor())):
        filled = path.template.replace("{model}", "reviews").replace("{id}", "1")
        yield Way(_JSON, path.method, path.verb, filled)
    for known in known_paths():
        for pattern in known.pattern.split("|"):
            if pattern.startswith("/v2"):
                plain = pattern.replace("[^/:]+", "reviews").replace("\\", "")
                yield Way(_V2, plain, known.methods[0], plain)


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
        b"", metadata=tuple(authorization.items()), timeout=20
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
    async with http.stream("POST", way.path, content=_FRAME, headers=headers) as answer:
        code = answer.headers.get("grpc-status", "")
        return Answer(code == "16", code == "7", answer.headers.get("grpc-message", ""))
