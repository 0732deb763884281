"""One request of the Open Inference Protocol, sent in every way that the protocol knows."""

import json
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from grpc import StatusCode, aio

from inference import open_inference_pb2 as pb
from inference import open_inference_pb2_grpc
from tests.integration.open_inference.conftest import OneReplica

WAIT_S = 20.0
_DTYPES = {"FP32": "<f4", "BOOL": "?"}
# HTTP has one status for both; clients tell them apart by the message.
_CODES = {
    400: (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION),
    404: (StatusCode.NOT_FOUND,),
    413: (StatusCode.INVALID_ARGUMENT,),
}


@dataclass(frozen=True)
class Tensor:
    """An input."""

    texts: Sequence[bytes] = (b"good",)
    name: str = "text"
    datatype: str = "BYTES"
    shape: Sequence[int] | None = None
    """None: the number of texts."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    """The bytes instead of those that the texts make."""

    both: bool = False
    """The texts are in the message and in its bytes."""

    def sizes(self) -> list[int]:
        return [len(self.texts)] if self.shape is None else list(self.shape)

    def as_bytes(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return b"".join(struct.pack("<I", len(text)) + text for text in self.texts)


@dataclass(frozen=True)
class Output:
    """An output that is asked for."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Infer:
    """A request, whatever the way."""

    inputs: Sequence[Tensor] = (Tensor(),)
    outputs: Sequence[Output] = ()
    id: str = ""
    model: str = "reviews"
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_bytes(self) -> bool:
        """Whether JSON, or a message without bytes, cannot say this."""
        return any(tensor.raw is not None or tensor.both for tensor in self.inputs)

    @property
    def is_text(self) -> bool:
        """Whether every text is UTF-8, without which JSON cannot hold it."""
        return all(_is_text(text) for tensor in self.inputs for text in tensor.texts)


@dataclass(frozen=True)
class Failure:
    """How a request failed."""

    codes: tuple[StatusCode, ...]
    problem: str


@dataclass(frozen=True)
class Success:
    """How a request was answered. Outputs: name, datatype, dimensions and values of each."""

    model: str
    version: str
    id: str
    parameters: Mapping[str, str]
    outputs: Sequence[tuple[str, str, Sequence[int], Sequence[Any]]]


Outcome = Failure | Success
Way = Callable[[OneReplica, Infer], Awaitable[Outcome]]


async def json_over_http(mesh: OneReplica, infer: Infer) -> Outcome:
    """Texts and answers in JSON."""
    return await _post(mesh, infer, _json(infer, binary=False), b"")


async def bytes_over_http(mesh: OneReplica, infer: Infer) -> Outcome:
    """Texts and answers behind the JSON."""
    request = _json(infer, binary=True)
    request["parameters"] = {**request.get("parameters", {}), "binary_data_output": True}
    return await _post(mesh, infer, request, b"".join(t.as_bytes() for t in infer.inputs))


async def contents_over_grpc(mesh: OneReplica, infer: Infer) -> Outcome:
    """Texts and answers in the messages."""
    return await _call(mesh.stub, _message(infer, raw=False))


async def raw_over_grpc(mesh: OneReplica, infer: Infer) -> Outcome:
    """Texts and answers as bytes."""
    return await _call(mesh.stub, _message(infer, raw=True))


async def raw_at_the_grpc_port(mesh: OneReplica, infer: Infer) -> Outcome:
    """As raw_over_grpc, but at the replica's gRPC server, which Envoy calls over HTTP/2."""
    async with aio.insecure_channel(mesh.server.address) as channel:
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        return await _call(stub, _message(infer, raw=True))


WAYS: tuple[Way, ...] = (
    json_over_http,
    bytes_over_http,
    contents_over_grpc,
    raw_over_grpc,
    raw_at_the_grpc_port,
)


def can_say(way: Way, infer: Infer) -> bool:
    """Whether a request can be written in this way."""
    if way is json_over_http:
        return infer.is_text and not infer.needs_bytes
    return way is not contents_over_grpc or not infer.needs_bytes


def _is_text(text: bytes) -> bool:
    try:
        return text.decode() is not None
    except UnicodeDecodeError:
        return False


def _json(infer: Infer, binary: bool) -> dict[str, Any]:
    inputs = []
    for tensor in infer.inputs:
        item: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.sizes(),
            "datatype": tensor.datatype,
        }
        parameters = dict(tensor.parameters)
        if binary:
            parameters["binary_data_size"] = len(tensor.as_bytes())
        if not binary or tensor.both:
            item["data"] = [text.decode() for text in tensor.texts]
        inputs.append(item | ({"parameters": parameters} if parameters else {}))
    outputs = [
        {"name": output.name} | ({"parameters": output.parameters} if output.parameters else {})
        for output in infer.outputs
    ]
    request: dict[str, Any] = {"inputs": inputs}
    request |= {"outputs": outputs} if outputs else {}
    request |= {"id": infer.id} if infer.id else {}
    return request | ({"parameters": infer.parameters} if infer.parameters else {})


async def _post(mesh: OneReplica, infer: Infer, request: Mapping[str, Any], raw: bytes) -> Outcome:
    header = json.dumps(request).encode()
    version = f"/versions/{infer.version}" if infer.version else ""
    headers = {"inference-header-content-length": str(len(header))} if raw else {}
    response = await mesh.http.post(
        f"/v2/models/{infer.model}{version}/infer", content=header + raw, headers=headers
    )
    size = int(response.headers.get("inference-header-content-length", len(response.content)))
    answer, rest = json.loads(response.content[:size]), response.content[size:]
    if not response.is_success:
        assert answer.keys() == {"error"}
        return Failure(_CODES[response.status_code], answer["error"])
    outputs = []
    for output in answer["outputs"]:
        length = output.get("parameters", {}).get("binary_data_size")
        values = output.get("data")
        if length is not None:
            values, rest = _values(output["datatype"], rest[:length]), rest[length:]
        outputs.append((output["name"], output["datatype"], output["shape"], values))
    assert not rest
    told = (answer["model_name"], answer["model_version"], answer.get("id", ""))
    return Success(*told, answer["parameters"], outputs)


def _message(infer: Infer, raw: bool) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(
        model_name=infer.model,
        model_version=infer.version,
        id=infer.id,
        parameters=_parameters(infer.parameters),
        raw_input_contents=[tensor.as_bytes() for tensor in infer.inputs] if raw else None,
    )
    for tensor in infer.inputs:
        item = request.inputs.add(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tensor.sizes(),
            parameters=_parameters(tensor.parameters),
        )
        if not raw or tensor.both:
            item.contents.bytes_contents.extend(tensor.texts)
    for output in infer.outputs:
        request.outputs.add(name=output.name, parameters=_parameters(output.parameters))
    return request


def _parameters(parameters: Mapping[str, Any]) -> dict[str, pb.InferParameter]:
    return {name: _parameter(value) for name, value in parameters.items()}


def _parameter(value: Any) -> pb.InferParameter:
    if value is None:
        return pb.InferParameter()
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    return pb.InferParameter(string_param=value)


async def _call(stub: Any, request: pb.ModelInferRequest) -> Outcome:
    try:
        answer = await stub.ModelInfer(request, timeout=WAIT_S)
    except aio.AioRpcError as error:
        return Failure((error.code(),), error.details() or "")
    outputs = []
    for index, output in enumerate(answer.outputs):
        if answer.raw_output_contents:
            values = _values(output.datatype, answer.raw_output_contents[index])
        else:
            values = [
                value.decode() if isinstance(value, bytes) else value
                for _, elements in output.contents.ListFields()
                for value in elements
            ]
        outputs.append((output.name, output.datatype, list(output.shape), values))
    parameters = {name: value.string_param for name, value in answer.parameters.items()}
    return Success(answer.model_name, answer.model_version, answer.id, parameters, outputs)


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype in _DTYPES:
        values: list[Any] = np.frombuffer(raw, _DTYPES[datatype]).tolist()
        return values
    texts = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return texts
