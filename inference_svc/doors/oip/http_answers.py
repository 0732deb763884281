"""Answers of the Open Inference Protocol over HTTP that are JSON, errors included."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

from aiohttp import web
from grpc import StatusCode

from service_kit.errors import Exhausted, MeshError, Unavailable

JSON = "application/json"
_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}


class Refused(Exception):
    """The request is refused with a status that no error of the mesh has."""

    def __init__(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.response = error_answer(status, message, headers)


def json_answer(
    value: Mapping[str, object],
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an answer whose body is this value."""
    # An error quotes the request, in which there may be half of a surrogate pair.
    body = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def error_answer(
    status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error in the protocol's form."""
    return json_answer({"error": message}, status, headers)


def answer_of(error: MeshError) -> web.Response:
    """Return the answer to a call that ended with this error."""
    headers = None
    if isinstance(error, Exhausted | Unavailable):
        headers = {"Retry-After": str(max(1, ceil(error.retry_after_s)))}
    status = _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return error_answer(status, str(error), headers)
