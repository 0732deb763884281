"""The Open Inference Protocol's JSON, with the binary tensor extension.

With binary data, the body is the JSON object, followed by the bytes of each tensor in turn; the
header Inference-Header-Content-Length gives the length of the JSON object in bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from inference_svc.doors.oip.parameters import CONTENT_TYPE, check_parameters
from inference_svc.doors.oip.tensors import (
    OUTPUTS,
    TEXT,
    OutputTensor,
    check_count,
    check_input,
    check_outputs,
    split_elements,
    texts_of,
)
from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_TEXTS

# Parameters of the binary tensor extension: of an input, of an output, and of the request.
_SIZE, _AS_BYTES, _ALL_AS_BYTES = "binary_data_size", "binary_data", "binary_data_output"
# KServe's client repeats the path in the body.
_FIELDS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
_INPUT_FIELDS = ("name", "shape", "datatype", "data", "parameters")
_OUTPUT_FIELDS = ("name", "parameters")
# No body's length has more digits; int() would fail at more than 4,300 of them.
_LENGTH = re.compile(r"[0-9]{1,20}")
# A request needs two for each text, and a few more.
_MOST_VALUES = 8 * MAX_TEXTS
_BEFORE_VALUES = (b",", b"[", b"{")
# A string, which may have no end, or what stands before a value. Nothing is tried twice, so twice
# as much data takes twice as long.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)
# JSON's escapes can hold half of a surrogate pair, which no UTF-8 can.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class InferRequest:
    """A request whose fields have been checked."""

    id: str
    texts: list[str]
    outputs: tuple[str, ...]
    binary: frozenset[str]
    """Names of the outputs that the caller wants as bytes."""


@dataclass(frozen=True)
class Body:
    """An answer's body. `json_bytes` is the length of its JSON; None: there is no binary data."""

    content: bytes
    json_bytes: int | None


def read_request(
    body: bytes, json_bytes: str | None, model: str = "", version: str = ""
) -> InferRequest:
    """Read the body of a request; `json_bytes` is its Inference-Header-Content-Length.

    `model` and `version` are those of the path. A field that is null is absent. Raises
    InvalidArgument, which names the field that is wrong.
    """
    header, binary = _parts(body, json_bytes)
    request = _object(_parsed(header), "body", _FIELDS)
    for field, of_path in (("model_name", model), ("model_version", version)):
        if request.get(field, of_path) != of_path:
            raise InvalidArgument(field, f"is not that of the path, {of_path[:60]!r}")
    inputs = [
        _object(item, f"inputs[{index}]", _INPUT_FIELDS)
        for index, item in enumerate(_list(request.get("inputs"), "inputs"))
    ]
    names = [_string(item.get("name"), "inputs[].name") for item in inputs]
    first = inputs[0] if inputs else {}
    shape = _list(first.get("shape", []), f"{TEXT}.shape")
    if not all(type(size) is int for size in shape):
        raise InvalidArgument(TEXT, "has a shape that is not a list of whole numbers")
    count = check_input(names, _string(first.get("datatype", ""), f"{TEXT}.datatype"), shape)
    outputs, as_bytes = _wanted(request)
    return InferRequest(
        id=_string(request.get("id", ""), "id"),
        texts=_texts(first, binary, count, rows=len(shape) == 2),
        outputs=outputs,
        binary=as_bytes,
    )


def write_answer(
    head: Mapping[str, object], tensors: Sequence[OutputTensor], binary: frozenset[str]
) -> Body:
    """Write an answer; the tensors that `binary` names go behind the JSON."""
    outputs = [_output(tensor, tensor.name in binary) for tensor in tensors]
    answer = json.dumps({**head, "outputs": outputs}, ensure_ascii=False, separators=(",", ":"))
    content = answer.encode()
    raw = [tensor.raw for tensor in tensors if tensor.name in binary]
    return Body(b"".join((content, *raw)), len(content) if raw else None)


def _parts(body: bytes, json_bytes: str | None) -> tuple[bytes, bytes]:
    if json_bytes is None:
        return body, b""
    if not (_LENGTH.fullmatch(json_bytes) and int(json_bytes) <= len(body)):
        raise InvalidArgument(
            "Inference-Header-Content-Length",
            f"is {json_bytes[:20]!r}; the body has {len(body):,} bytes",
        )
    return body[: int(json_bytes)], body[int(json_bytes) :]


def _parsed(header: bytes) -> Any:
    # While Python reads JSON, the replica does nothing else; millions of values take seconds.
    if _has_too_many_values(header):
        raise InvalidArgument("body", f"has more than {_MOST_VALUES:,} values")
    try:
        return json.loads(header.decode(), object_pairs_hook=_fields, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("body", f"is not JSON: {error}") from error


def _has_too_many_values(header: bytes) -> bool:
    if sum(map(header.count, _BEFORE_VALUES)) <= _MOST_VALUES:
        return False
    # Texts hold commas and brackets as well, so look at what is outside of strings. Each value has
    # one token before it, and is at most one itself.
    tokens = islice(_TOKEN.finditer(header), 2 * _MOST_VALUES, None)
    return next(tokens, None) is not None


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object, without those that are null."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument("body", f"has the field {twice[:60]!r} twice in one object")
    return {name: value for name, value in pairs if value is not None}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


def _texts(tensor: Mapping[str, Any], binary: bytes, count: int, rows: bool) -> list[str]:
    """The texts of a tensor; `rows`: its shape is [n, 1], so each may be a list of its own."""
    field = f"{TEXT}.parameters"
    parameters = _object(tensor.get("parameters", {}), field)
    check_parameters(field, parameters.items(), _SIZE, CONTENT_TYPE)
    size = parameters.get(_SIZE)
    if size is not None:
        if type(size) is not int or size != len(binary):
            raise InvalidArgument(
                TEXT, f"has {_SIZE} {str(size)[:20]}; {len(binary):,} bytes follow"
            )
        if "data" in tensor:
            raise InvalidArgument(TEXT, f"has data, and {_SIZE} as well; send one of them")
        return texts_of(split_elements(binary, count), count)
    if binary:
        raise InvalidArgument(TEXT, f"has no {_SIZE}, and binary data follows")
    elements = _list(tensor.get("data"), f"{TEXT}.data")
    if rows and elements and all(isinstance(item, list) for item in elements):
        if not all(len(item) == 1 for item in elements):
            raise InvalidArgument(f"{TEXT}.data", "has a row without exactly one text")
        elements = [item[0] for item in elements]
    encoded = [
        _string(element, f"{TEXT}[{index}]").encode() for index, element in enumerate(elements)
    ]
    return texts_of(encoded, count)


def _wanted(request: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    parameters = _object(request.get("parameters", {}), "parameters")
    check_parameters("parameters", parameters.items(), _ALL_AS_BYTES, CONTENT_TYPE)
    by_default = _boolean(parameters.get(_ALL_AS_BYTES, False), _ALL_AS_BYTES)
    names, as_bytes = [], set()
    requested = _list(request.get("outputs", []), "outputs")
    check_count(requested)
    for index, item in enumerate(requested):
        output = _object(item, f"outputs[{index}]", _OUTPUT_FIELDS)
        name = _string(output.get("name"), f"outputs[{index}].name")
        field = f"outputs[{index}].parameters"
        options = _object(output.get("parameters", {}), field)
        check_parameters(field, options.items(), _AS_BYTES)
        names.append(name)
        if _boolean(options.get(_AS_BYTES, by_default), f"{field}.{_AS_BYTES}"):
            as_bytes.add(name)
    outputs = check_outputs(names)
    if not names and by_default:
        as_bytes.update(OUTPUTS)
    return outputs, frozenset(as_bytes)


def _output(tensor: OutputTensor, binary: bool) -> dict[str, object]:
    output: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    parameters: dict[str, object] = dict(tensor.parameters)
    if binary:
        parameters["binary_data_size"] = len(tensor.raw)
    else:
        output["data"] = tensor.values
    if parameters:
        output["parameters"] = parameters
    return output


def _object(value: Any, field: str, known: Sequence[str] = ()) -> Mapping[str, Any]:
    """A JSON object, whose fields must be among `known` when there are any."""
    if not isinstance(value, dict):
        raise InvalidArgument(field, "is not a JSON object")
    for name in value if known else ():
        if name not in known:
            problem = f"has the field {name[:60]!r}; known are {', '.join(known)}"
            raise InvalidArgument(field, problem)
    return value


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgument(field, "is not a list")
    return value


def _string(value: Any, field: str) -> str:
    """A string that can be written as UTF-8, as gRPC demands of every string."""
    if not isinstance(value, str):
        raise InvalidArgument(field, "is not a string")
    if not value.isascii() and _SURROGATE.search(value):
        raise InvalidArgument(field, "has half of a surrogate pair")
    return value


def _boolean(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(field, "is neither true nor false")
    return value
