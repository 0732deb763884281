"""The Open Inference Protocol's JSON, with the binary tensor extension.

With binary data, the body is the JSON object, followed by the bytes of each tensor in turn; the
header Inference-Header-Content-Length gives the length of the JSON object in bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_svc.doors.oip.tensors import (
    OUTPUTS,
    TEXT,
    OutputTensor,
    check_input,
    check_outputs,
    split_elements,
    texts_of,
)
from service_kit.errors import InvalidArgument

# Options that ask for something other than the tensor. They are refused, because an answer that
# ignored them would be wrong.
_NOT_TAKEN = ("classification", "shared_memory_region")
# No body's length has more digits; int() would fail at more than 4,300 of them.
_LENGTH = re.compile(r"[0-9]{1,20}")


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


def read_request(body: bytes, json_bytes: str | None) -> InferRequest:
    """Read the body of a request; `json_bytes` is its Inference-Header-Content-Length.

    Raises InvalidArgument, which names the field that is wrong.
    """
    header, binary = _parts(body, json_bytes)
    try:
        request = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("body", f"is not JSON: {error}") from error
    request = _object(request, "body")
    inputs = [
        _object(item, f"inputs[{index}]")
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
        texts=_texts(first, binary, count),
        outputs=outputs,
        binary=as_bytes,
    )


def write_answer(
    head: Mapping[str, object], tensors: Sequence[OutputTensor], binary: frozenset[str]
) -> Body:
    """Write an answer; the tensors that `binary` names go behind the JSON."""
    outputs = [_output(tensor, tensor.name in binary) for tensor in tensors]
    answer = json.dumps({**head, "outputs": outputs}, ensure_ascii=False, separators=(",", ":"))
    # JSON can hold half of a surrogate pair and UTF-8 cannot: it goes back escaped, as it came.
    content = answer.encode(errors="backslashreplace")
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


def _texts(tensor: Mapping[str, Any], binary: bytes, count: int) -> list[str]:
    size = _object(tensor.get("parameters", {}), f"{TEXT}.parameters").get("binary_data_size")
    if size is not None:
        if type(size) is not int or size != len(binary):
            raise InvalidArgument(
                TEXT, f"has binary_data_size {str(size)[:20]}; {len(binary):,} bytes follow"
            )
        return texts_of(split_elements(binary, count), count)
    if binary:
        raise InvalidArgument(TEXT, "has no binary_data_size, and binary data follows")
    elements = []
    for item in _list(tensor.get("data"), f"{TEXT}.data"):
        # Rows of a tensor [n, 1] may be lists.
        elements += item if isinstance(item, list) else [item]
    encoded = [_encoded(element, index) for index, element in enumerate(elements)]
    return texts_of(encoded, count)


def _encoded(element: Any, index: int) -> bytes:
    try:
        return _string(element, f"{TEXT}[{index}]").encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{TEXT}[{index}]", "has half of a surrogate pair") from error


def _wanted(request: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    parameters = _object(request.get("parameters", {}), "parameters")
    by_default = _boolean(parameters.get("binary_data_output", False), "binary_data_output")
    names, as_bytes = [], set()
    for index, item in enumerate(_list(request.get("outputs", []), "outputs")):
        output = _object(item, f"outputs[{index}]")
        name = _string(output.get("name"), f"outputs[{index}].name")
        options = _object(output.get("parameters", {}), f"outputs[{index}].parameters")
        for option in _NOT_TAKEN:
            if option in options:
                raise InvalidArgument(f"outputs[{index}].parameters", f"{option} is not known here")
        names.append(name)
        if _boolean(options.get("binary_data", by_default), "binary_data"):
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


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(field, "is not a JSON object")
    return value


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgument(field, "is not a list")
    return value


def _string(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(field, "is not a string")
    return value


def _boolean(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(field, "is neither true nor false")
    return value
