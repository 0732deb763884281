"""Reads from an answer, after the run, which version on which replica gave it."""

import json
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf.message import DecodeError

from mesh.v1 import predict_pb2


class Server(NamedTuple):
    """The server of an answer: a version under an alias on a replica."""

    version: str
    alias: str
    replica: str


def server_reader(protocol: str) -> Callable[[bytes], Server | None]:
    """A function that reads the server from the bytes of an answer.

    It returns None for bytes that are not an answer of the mesh.
    """
    return _from_message if protocol == "grpc" else _from_json


def _from_message(body: bytes) -> Server | None:
    try:
        answer = predict_pb2.PredictResponse.FromString(body)
    except DecodeError:
        return None
    return _unless_empty(Server(answer.model.version, answer.model.alias, answer.replica))


def _from_json(body: bytes) -> Server | None:
    try:
        answer = json.loads(body)
        model = answer.get("model") or {}
        server = Server(model.get("version", ""), model.get("alias", ""), answer.get("replica", ""))
    except (ValueError, AttributeError):
        return None
    return _unless_empty(server)


def _unless_empty(server: Server) -> Server | None:
    return server if any(server) else None
