"""Tensors of the Open Inference Protocol: texts in; labels, scores and what was cut off out."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inference_svc.serving.replica import Answer
from service_kit.errors import InvalidArgument
from service_kit.limits import MAX_TEXTS

TEXT, LABEL, SCORE, SCORES, TRUNCATED = "text", "label", "score", "scores", "truncated"
BYTES, FP32, BOOL = "BYTES", "FP32", "BOOL"
OUTPUTS = (LABEL, SCORE, SCORES, TRUNCATED)
SHOWN_NAMES = 8  # names of inputs that an error repeats
# The length that stands before each element of a BYTES tensor.
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """Name, type and dimensions; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class OutputTensor(Tensor):
    """A tensor of an answer. `values` are in row-major order; `raw` holds them as bytes."""

    values: Sequence[str] | Sequence[float] | Sequence[bool]
    raw: bytes
    parameters: Mapping[str, str] = field(default_factory=dict)


INPUT = Tensor(TEXT, BYTES, (-1,))


def metadata_of_outputs(labels: Sequence[str]) -> tuple[Tensor, ...]:
    """The output tensors of a model with these labels."""
    return (
        Tensor(LABEL, BYTES, (-1,)),
        Tensor(SCORE, FP32, (-1,)),
        Tensor(SCORES, FP32, (-1, len(labels))),
        Tensor(TRUNCATED, BOOL, (-1,)),
    )


def check_input(names: Sequence[str], datatype: str, shape: Sequence[int]) -> int:
    """Return the number of texts that the shape of the input gives.

    Raises InvalidArgument unless there is one input, `text`, of type BYTES with shape [n] or
    [n, 1], and n is within the limit.
    """
    if tuple(names) != (TEXT,):
        shown = ", ".join(name[:60] for name in names[:SHOWN_NAMES]) or "none"
        raise InvalidArgument("inputs", f"one tensor {TEXT!r} is taken; sent: {shown}")
    if datatype != BYTES:
        raise InvalidArgument(TEXT, f"has datatype {datatype[:20]!r}; it must be {BYTES}")
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or shape[0] < 0:
        raise InvalidArgument(TEXT, f"has shape {str(list(shape))[:60]}; it must be [n] or [n, 1]")
    if not 1 <= shape[0] <= MAX_TEXTS:
        count = f"{shape[0]:,}" if shape[0] < 2**63 else "far too many"
        raise InvalidArgument(TEXT, f"has {count} texts; send 1 to {MAX_TEXTS:,} a request")
    return shape[0]


def split_elements(raw: bytes, count: int) -> list[bytes]:
    """Read `count` elements of a BYTES tensor. Raises InvalidArgument when they do not fit."""
    elements: list[bytes] = []
    position = 0
    for _ in range(count):
        begin = position + _LENGTH.size
        if begin > len(raw):
            raise _misfit(len(elements), count)
        (length,) = _LENGTH.unpack_from(raw, position)
        position = begin + length
        if position > len(raw):
            raise _misfit(len(elements), count)
        elements.append(raw[begin:position])
    if position != len(raw):
        problem = f"has {len(raw) - position:,} bytes more than the {count} elements of its shape"
        raise InvalidArgument(TEXT, problem)
    return elements


def join_elements(elements: Sequence[bytes]) -> bytes:
    """The bytes of a BYTES tensor with these elements."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def texts_of(elements: Sequence[bytes], count: int) -> list[str]:
    """Decode the elements. Raises InvalidArgument when one is not UTF-8, or `count` is wrong."""
    if len(elements) != count:
        raise _misfit(len(elements), count)
    texts = []
    for index, element in enumerate(elements):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{TEXT}[{index}]", "is not UTF-8") from error
    return texts


def check_count(outputs: Sequence[object]) -> None:
    """Raise InvalidArgument when a request names more outputs than there are."""
    if len(outputs) > len(OUTPUTS):
        problem = f"names {len(outputs):,} tensors; there are {', '.join(OUTPUTS)}"
        raise InvalidArgument("outputs", problem)


def check_outputs(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the outputs that a request names, or all when it names none.

    Raises InvalidArgument for one that does not exist.
    """
    for name in names:
        if name not in OUTPUTS:
            names_of_all = ", ".join(OUTPUTS)
            problem = f"there is no {name[:60]!r}; there are {names_of_all}"
            raise InvalidArgument("outputs", problem)
    if len(set(names)) < len(names):
        raise InvalidArgument("outputs", "names a tensor twice")
    return tuple(names) or OUTPUTS


def output_tensor(name: str, answer: Answer) -> OutputTensor:
    """One of OUTPUTS from an answer."""
    return _MAKERS[name](answer)


def _label(answer: Answer) -> OutputTensor:
    labels = answer.served.prepared.model.spec.labels
    values = [labels[column] for column in answer.classified.best]
    raw = join_elements([value.encode() for value in values])
    return OutputTensor(LABEL, BYTES, (len(values),), values, raw)


def _score(answer: Answer) -> OutputTensor:
    top = np.array(answer.classified.top, "<f4")
    return OutputTensor(SCORE, FP32, top.shape, top.tolist(), top.tobytes())


def _scores(answer: Answer) -> OutputTensor:
    scores = np.ascontiguousarray(answer.classified.scores, "<f4")
    # Each version has its own order of labels, so the order goes with the scores.
    labels = json.dumps(list(answer.served.prepared.model.spec.labels), ensure_ascii=False)
    values = scores.ravel().tolist()
    return OutputTensor(SCORES, FP32, scores.shape, values, scores.tobytes(), {"labels": labels})


def _truncated(answer: Answer) -> OutputTensor:
    truncated = np.array(answer.classified.truncated, np.bool_)
    return OutputTensor(TRUNCATED, BOOL, truncated.shape, truncated.tolist(), truncated.tobytes())


_MAKERS: Mapping[str, Callable[[Answer], OutputTensor]] = {
    LABEL: _label,
    SCORE: _score,
    SCORES: _scores,
    TRUNCATED: _truncated,
}


def _misfit(whole: int, count: int) -> InvalidArgument:
    return InvalidArgument(TEXT, f"has {whole:,} whole elements; its shape says {count:,}")
