"""The Open Inference Protocol over HTTP; only translates JSON and binary tensors."""

import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any

from aiohttp import web
from grpc import StatusCode

from inference_svc.doors import call_metadata
from inference_svc.doors.oip.json_bodies import read_request, write_answer
from inference_svc.doors.oip.protocol import EXTENSIONS, SERVER_NAME, SERVER_VERSION, OpenInference
from inference_svc.doors.oip.tensors import INPUT, Tensor, output_tensor
from service_kit.errors import Exhausted, InvalidArgument, MeshError, NotFound, Unavailable
from service_kit.interceptor import RPC_SECONDS
from service_kit.limits import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

JSON_LENGTH = "Inference-Header-Content-Length"
_JSON = "application/json"
_BINARY = "application/octet-stream"
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/ready|/infer)?")
_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True)
class _Call:
    """The call that a path stands for; with `model` "" it is about the server itself."""

    method: str
    model: str = ""
    version: str = ""


_SERVER_CALLS = {
    "/v2": _Call("metadata"),
    "/v2/": _Call("metadata"),
    "/v2/health/live": _Call("live"),
    "/v2/health/ready": _Call("ready"),
}


class OpenInferenceHttp:
    """Listens on a port of its own; closing one that never listened is harmless."""

    def __init__(self, inference: OpenInference, grace_s: float) -> None:
        """`grace_s` is the time in seconds that requests get to finish when the listener closes."""
        self._inference = inference
        # When a client hangs up, its handler is cancelled, and its texts leave the queue.
        server = web.Server(
            self._answer, request_factory=_request, handler_cancellation=True, access_log=None
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=grace_s)

    async def listen(self, host: str, port: int) -> None:
        """Take connections. Raises OSError when the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        log.info("listening", extra={"address": f"{host}:{port}", "protocol": "http"})

    async def close(self) -> None:
        """Take no more connections, let requests finish, and end the connections."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        started, method, code = time.perf_counter(), "unknown", StatusCode.OK
        try:
            call = _call(request.path)
            if call is None:
                raise NotFound(f"there is nothing at {request.path[:100]}")
            method = call.method
            verb = "POST" if call.method == "infer" else "GET"
            if request.method not in (verb, "HEAD" if verb == "GET" else verb):
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, f"send {verb}", {"Allow": verb})
            return await self._result(call, request)
        except web.HTTPRequestEntityTooLarge:
            code = StatusCode.INVALID_ARGUMENT
            limit = f"body: is larger than the limit of {MAX_MESSAGE_BYTES:,} bytes"
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, limit)
        except MeshError as error:
            code = error.code
            return _mesh_error(error)
        except Exception:
            code, incident = StatusCode.INTERNAL, uuid.uuid4().hex[:12]
            log.exception("call failed", extra={"path": request.path, "incident": incident})
            message = f"internal error; the log has it as {incident}"
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, message)
        finally:
            seconds = time.perf_counter() - started
            RPC_SECONDS.labels(f"/v2/{method}", code.name).observe(seconds)

    async def _result(self, call: _Call, request: web.BaseRequest) -> web.Response:
        inference = self._inference
        if call.method == "infer":
            return await self._infer(call, request)
        if call.method == "live":
            return _json({"live": True})
        if call.method == "ready":
            if call.model:
                await inference.find(call.model, call.version)
            status = HTTPStatus.OK if inference.ready else HTTPStatus.BAD_REQUEST
            return _json({"ready": inference.ready}, status)
        if call.model:
            return _json(await self._model(call))
        return _json(
            {"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": list(EXTENSIONS)}
        )

    async def _model(self, call: _Call) -> dict[str, object]:
        model = await self._inference.describe(call.model, call.version)
        return {
            "name": model.name,
            "versions": model.versions,
            "platform": model.platform,
            "inputs": [_metadata(INPUT)],
            "outputs": [_metadata(tensor) for tensor in model.outputs],
        }

    async def _infer(self, call: _Call, request: web.BaseRequest) -> web.Response:
        body = await _body(request)
        infer = read_request(body, request.headers.get(JSON_LENGTH))
        routing = call_metadata.routing_in(request.headers)
        answer = await self._inference.infer(
            call.model, call.version, infer.texts, routing.role, mirrored=routing.mirrored
        )
        head: dict[str, object] = {
            "model_name": call.model,
            "model_version": answer.served.version,
            "parameters": self._inference.parameters(answer),
        }
        if infer.id:
            head["id"] = infer.id
        tensors = [output_tensor(name, answer) for name in infer.outputs]
        written = write_answer(head, tensors, infer.binary)
        headers = dict(self._inference.headers(answer))
        if written.json_bytes is None:
            return web.Response(body=written.content, content_type=_JSON, headers=headers)
        headers[JSON_LENGTH] = str(written.json_bytes)
        return web.Response(body=written.content, content_type=_BINARY, headers=headers)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = task.get_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=MAX_MESSAGE_BYTES
    )


async def _body(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise InvalidArgument("body", f"cannot be read: {error}") from error


def _call(path: str) -> _Call | None:
    call = _SERVER_CALLS.get(path)
    if call is None and (match := _MODEL.fullmatch(path)):
        model, version, verb = match.groups()
        method = verb[1:] if verb else "metadata"
        return _Call(method, model, version or "")
    return call


def _metadata(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _json(
    value: Mapping[str, object],
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    # An error quotes the request, in which there may be half of a surrogate pair.
    body = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
    return web.Response(body=body, status=status, content_type=_JSON, headers=headers)


def _error(
    status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    return _json({"error": message}, status, headers)


def _mesh_error(error: MeshError) -> web.Response:
    headers = None
    if isinstance(error, Exhausted | Unavailable):
        headers = {"Retry-After": str(max(1, ceil(error.retry_after_s)))}
    return _error(_STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR), str(error), headers)
