"""The Open Inference Protocol over HTTP; only translates JSON and binary tensors."""

import asyncio
import logging
import time
import uuid
from http import HTTPStatus

from aiohttp import web
from grpc import StatusCode

from inference_svc.doors import call_metadata
from inference_svc.doors.oip.http_answers import (
    JSON,
    Refused,
    answer_of,
    error_answer,
    json_answer,
)
from inference_svc.doors.oip.http_connections import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    connection_server,
    head_bytes,
)
from inference_svc.doors.oip.http_paths import Call, call_at
from inference_svc.doors.oip.json_bodies import read_request, write_answer
from inference_svc.doors.oip.protocol import EXTENSIONS, SERVER_NAME, SERVER_VERSION, OpenInference
from inference_svc.doors.oip.tensors import INPUT, Tensor, output_tensor
from service_kit.callers.caller import caller_of
from service_kit.decompression import ENCODINGS, UnpacksToTooMuch, decompressed
from service_kit.errors import InvalidArgument, MeshError
from service_kit.identities.http_tls import server_context
from service_kit.identities.identity import Identity
from service_kit.interceptor import RPC_SECONDS
from service_kit.limits import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

JSON_LENGTH = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"
_ENCODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
# Time for a body to come, seconds. Envoy gives no call more than half of this.
BODY_S = 60.0


class OpenInferenceHttp:
    """Listens on a port of its own; closing one that never listened is harmless."""

    def __init__(self, inference: OpenInference, grace_s: float) -> None:
        """`grace_s` is the time in seconds that requests get to finish when the listener closes."""
        self._inference = inference
        # A handler that is cancelled takes its texts out of the queue.
        server = connection_server(self._answer)
        self._runner = web.ServerRunner(server, shutdown_timeout=grace_s)

    async def listen(self, host: str, port: int, identity: Identity | None = None) -> None:
        """Take connections, with an `identity` only Envoy's, over mutual TLS.

        Raises OSError when the port is taken.
        """
        await self._runner.setup()
        context = server_context(identity)
        await web.TCPSite(self._runner, host, port, ssl_context=context).start()
        log.info("listening", extra={"address": f"{host}:{port}", "protocol": "http"})

    async def close(self) -> None:
        """Take no more connections, let requests finish, and end the connections."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        started, method, code = time.perf_counter(), "unknown", StatusCode.OK
        try:
            if head_bytes(request) > MAX_HEAD_BYTES:
                raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LARGE)
            call = call_at(request.rel_url.raw_path)
            method = call.method
            if request.method not in call.verbs:
                allowed = {"Allow": ", ".join(call.verbs)}
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"send {call.verbs[0]}", allowed)
            if call.model:
                caller_of(request.headers).check(call.model)
            return await self._result(call, request)
        except Refused as refused:
            code = StatusCode.INVALID_ARGUMENT
            return refused.response
        except MeshError as error:
            code = error.code
            return answer_of(error)
        except Exception:
            code, incident = StatusCode.INTERNAL, uuid.uuid4().hex[:12]
            log.exception("call failed", extra={"path": request.path, "incident": incident})
            message = f"internal error; the log has it as {incident}"
            return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, message)
        finally:
            seconds = time.perf_counter() - started
            RPC_SECONDS.labels(f"/v2/{method}", code.name).observe(seconds)

    async def _result(self, call: Call, request: web.BaseRequest) -> web.Response:
        inference = self._inference
        if call.method == "infer":
            return await self._infer(call, request)
        if call.method == "live":
            return json_answer({"live": True})
        if call.method == "ready":
            if call.model:
                await inference.find(call.model, call.version)
            status = HTTPStatus.OK if inference.ready else HTTPStatus.BAD_REQUEST
            return json_answer({"ready": inference.ready}, status)
        if call.model:
            return json_answer(await self._model(call))
        return json_answer(
            {"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": list(EXTENSIONS)}
        )

    async def _model(self, call: Call) -> dict[str, object]:
        model = await self._inference.describe(call.model, call.version)
        return {
            "name": model.name,
            "versions": model.versions,
            "platform": model.platform,
            "inputs": [_metadata(INPUT)],
            "outputs": [_metadata(tensor) for tensor in model.outputs],
        }

    async def _infer(self, call: Call, request: web.BaseRequest) -> web.Response:
        body = await _body(request)
        lengths = request.headers.getall(JSON_LENGTH, [None])
        if len(lengths) > 1:
            raise InvalidArgument(JSON_LENGTH, "is there twice")
        infer = read_request(body, lengths[0], call.model, call.version)
        routing = call_metadata.routing_in(request.headers)
        answer = await self._inference.infer(
            call.model,
            call.version,
            infer.texts,
            routing.role,
            mirrored=routing.mirrored,
            bucket=routing.bucket,
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
            return web.Response(body=written.content, content_type=JSON, headers=headers)
        headers[JSON_LENGTH] = str(written.json_bytes)
        return web.Response(body=written.content, content_type=_BINARY, headers=headers)


async def _body(request: web.BaseRequest) -> bytes:
    """The whole body, unpacked when it is compressed."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", *_ENCODINGS):
        known = ", ".join(ENCODINGS)
        message = f"Content-Encoding {encoding[:40]!r} is not known here; send {known} or none"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, {"Accept-Encoding": known})
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except web.RequestPayloadError as error:
        raise InvalidArgument("body", f"cannot be read: {error}") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except TimeoutError as error:
        raise Refused(
            HTTPStatus.REQUEST_TIMEOUT, f"the body does not come; it has {BODY_S:g} s"
        ) from error
    if encoding in _ENCODINGS:
        try:
            body = decompressed(body, _ENCODINGS[encoding], MAX_MESSAGE_BYTES, "body")
        except UnpacksToTooMuch as error:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
    return body


def _too_large() -> Refused:
    message = f"body: is larger than the limit of {MAX_MESSAGE_BYTES:,} bytes"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _metadata(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
