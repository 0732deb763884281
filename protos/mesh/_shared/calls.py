"""Channel options, deadlines and requests, which the sync and the async client share."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mesh.errors import MeshError, Unavailable
from mesh.v1 import data_pb2, predict_pb2, reload_pb2, train_pb2

DEFAULT_ADDRESS = "127.0.0.1:8000"

# Deadlines in seconds. A Reload has the longest one: it first prepares the model on every replica.
PREDICT_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 30.0
RELOAD_TIMEOUT_S = 600.0

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Texts in one message of a bulk scoring, and messages that may wait for their answers at once.
BULK_TEXTS = 64
BULK_WINDOW = 16
# Examples in one message of an import.
IMPORT_EXAMPLES = 2_000
# Items in one page of a list that is read to its end: as many as the mesh sends at once.
PAGE_SIZE = 1_000
# A bulk scoring or a watch gives up after this many failures without an answer in between.
STREAM_ATTEMPTS = 5
# Seconds between a failure and the next connection.
STREAM_PAUSE_S = 0.5

_SERVICES = ("PredictService", "TrainService", "ReloadService", "DataService")


def channel_options() -> list[tuple[str, Any]]:
    """Options of a channel to the mesh.

    The channel sends a call again, three times at most, when the mesh is not reachable
    (UNAVAILABLE), and after no other error. This is safe, as every call that changes something
    carries a request id.
    """
    policy = {
        "methodConfig": [
            {
                "name": [{"service": f"mesh.v1.{service}"} for service in _SERVICES],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    return [
        ("grpc.service_config", json.dumps(policy)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]


def address_or_default(address: str | None) -> str:
    """`address`, else the environment's MESH_ADDRESS, else the default port on this machine."""
    return address or os.environ.get("MESH_ADDRESS") or DEFAULT_ADDRESS


def target(address: str) -> tuple[str, bool]:
    """`host:port` of an address that may begin with http:// or https://, and whether it has TLS.

    Raises ValueError when the address has a path or another scheme.
    """
    scheme, separator, rest = address.rpartition("://")
    rest = rest.rstrip("/")
    if (separator and scheme not in ("http", "https")) or "/" in rest:
        raise ValueError(f"{address!r} is no address of a mesh; host:port or https://host:port is")
    return rest, scheme == "https"


def trusted_certificates(ca: str | None) -> bytes | None:
    """The PEM file `ca`, else the environment's MESH_CA; None: the usual authorities."""
    path = ca or os.environ.get("MESH_CA")
    return Path(path).read_bytes() if path else None


def new_id(request_id: str) -> str:
    """`request_id`, or a new one when it is empty."""
    return request_id or str(uuid.uuid4())


def predict(
    model: str, texts: str | Sequence[str], all_scores: bool, request_id: str = ""
) -> predict_pb2.PredictRequest:
    """A request for one text or several."""
    listed = [texts] if isinstance(texts, str) else texts
    return predict_pb2.PredictRequest(
        model=model, texts=listed, all_scores=all_scores, id=request_id
    )


def key_metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata by which all requests with the same key get the same version during a canary."""
    return (("x-mesh-key", key),) if key is not None else ()


def bulk(model: str, texts: Iterable[str]) -> Iterator[predict_pb2.PredictRequest]:
    """Requests of a bulk scoring, numbered from 0."""
    for number, chunk in enumerate(chunks(texts, BULK_TEXTS)):
        yield predict(model, chunk, all_scores=False, request_id=str(number))


def train(
    model: str,
    request_id: str,
    params: train_pb2.TrainParams | None,
    promotion: train_pb2.Promotion | None,
    serve: bool,
) -> train_pb2.TrainRequest:
    """A request for a training job."""
    return train_pb2.TrainRequest(
        model=model,
        request_id=new_id(request_id),
        params=params,
        promotion=promotion or train_pb2.PROMOTION_AUTO,
        serve=serve,
    )


def reload(model: str, version: str, request_id: str) -> reload_pb2.ReloadRequest:
    """A request for a Reload."""
    return reload_pb2.ReloadRequest(model=model, version=version, request_id=new_id(request_id))


def traffic(
    model: str, challenger_weight: int, mirror_percent: int, request_id: str
) -> reload_pb2.SetTrafficRequest:
    """A request for a traffic split."""
    return reload_pb2.SetTrafficRequest(
        model=model,
        champion_weight=100 - challenger_weight,
        challenger_weight=challenger_weight,
        mirror_percent=mirror_percent,
        request_id=new_id(request_id),
    )


def canary(
    model: str, steps: Sequence[int], step_seconds: float, mirror_percent: int, request_id: str
) -> reload_pb2.StartCanaryRequest:
    """A request for a canary."""
    return reload_pb2.StartCanaryRequest(
        model=model,
        steps=steps,
        step_seconds=step_seconds,
        mirror_percent=mirror_percent,
        request_id=new_id(request_id),
    )


def imports(
    model: str,
    examples: Iterable[data_pb2.Example],
    source: str,
    no_train: bool,
    request_id: str,
) -> Iterator[data_pb2.ImportExamplesRequest]:
    """The messages of an import: one with the header, then those with the examples."""
    header = data_pb2.ImportHeader(
        model=model, request_id=new_id(request_id), no_train=no_train, source=source
    )
    yield data_pb2.ImportExamplesRequest(header=header)
    for chunk in chunks(examples, IMPORT_EXAMPLES):
        yield data_pb2.ImportExamplesRequest(examples=chunk)


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of at most `size`."""
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


ENDED = frozenset(
    {
        train_pb2.TRAINING_STATE_SUCCEEDED,
        train_pb2.TRAINING_STATE_FAILED,
        train_pb2.TRAINING_STATE_CANCELLED,
    }
)


def count_failure(error: MeshError, failures: int) -> int:
    """Return `failures` + 1, the tries of a stream that failed without an answer in between.

    Raises `error` when it may not be tried again, or has been tried STREAM_ATTEMPTS times.
    """
    if not isinstance(error, Unavailable) or failures + 1 >= STREAM_ATTEMPTS:
        raise error from None
    return failures + 1
