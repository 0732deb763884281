"""The rules of the Open Inference Protocol: one table, which holds in every way of asking."""

from typing import Any

import pytest
from grpc import StatusCode

from tests.integration.open_inference.conftest import OneReplica
from tests.integration.open_inference.ways import (
    WAYS,
    Failure,
    Infer,
    Output,
    Success,
    Tensor,
    Way,
    can_say,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID, MISSING, NOT_YET = (
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION,
)
LONG = b"good " * 100
THREE = (b"good", "süß 🙂".encode(), LONG)
OUTPUTS: list[tuple[str, str, list[int], list[Any]]] = [
    ("label", "BYTES", [3], ["good"] * 3),
    ("score", "FP32", [3], [0.75] * 3),
    ("scores", "FP32", [3, 2], [0.25, 0.75] * 3),
    ("truncated", "BOOL", [3], [False, False, True]),
]
STR = {"content_type": "str"}

# A request, and the names of the outputs in its answer.
ANSWERED: dict[str, tuple[Infer, list[str]]] = {
    "all outputs": (Infer(), ["label", "score", "scores", "truncated"]),
    "one output": (Infer(outputs=[Output("truncated")]), ["truncated"]),
    "in the order asked for": (
        Infer(outputs=[Output("truncated"), Output("scores"), Output("label")]),
        ["truncated", "scores", "label"],
    ),
    "a column": (Infer([Tensor(THREE, shape=[3, 1])], [Output("label")]), ["label"]),
    "an id": (Infer(id="süß 🙂", outputs=[Output("label")]), ["label"]),
    "a version": (Infer(version="1", outputs=[Output("label")]), ["label"]),
    "a type of content": (
        Infer([Tensor(THREE, parameters=STR)], [Output("label")], parameters=STR),
        ["label"],
    ),
    "parameters without a value": (
        Infer(
            [Tensor(THREE, parameters={"shared_memory_region": None})],
            [Output("label", {"classification": None})],
            parameters={"priority": None},
        ),
        ["label"],
    ),
}
SHARED = {"shared_memory_region": "region"}

# A request, its code, and words of its error.
REFUSED: dict[str, tuple[Infer, StatusCode, str]] = {
    # Inputs.
    "no input": (Infer([]), INVALID, "inputs: one tensor 'text' is taken; sent: none"),
    "another input": (Infer([Tensor(name="words")]), INVALID, "sent: words"),
    "an input without a name": (Infer([Tensor(name="")]), INVALID, "one tensor 'text' is taken"),
    "an input twice": (Infer([Tensor(), Tensor()]), INVALID, "sent: text, text"),
    "two inputs": (Infer([Tensor(), Tensor(name="b")]), INVALID, "sent: text, b"),
    "another datatype": (Infer([Tensor(datatype="FP32")]), INVALID, "has datatype 'FP32'"),
    "datatype in lower case": (Infer([Tensor(datatype="bytes")]), INVALID, "has datatype 'bytes'"),
    "no datatype": (Infer([Tensor(datatype="")]), INVALID, "has datatype ''"),
    "no dimension": (Infer([Tensor(shape=[])]), INVALID, "has shape []"),
    "a row": (Infer([Tensor(THREE, shape=[1, 3])]), INVALID, "has shape [1, 3]"),
    "three dimensions": (Infer([Tensor(shape=[1, 1, 1])]), INVALID, "has shape [1, 1, 1]"),
    "a negative dimension": (Infer([Tensor(shape=[-1])]), INVALID, "has shape [-1]"),
    "a column of nothing": (Infer([Tensor(shape=[1, 0])]), INVALID, "has shape [1, 0]"),
    "a huge dimension": (Infer([Tensor(shape=[2**63 - 1])]), INVALID, "807 texts; send 1 to 1,024"),
    "no text": (Infer([Tensor([])]), INVALID, "text: has 0 texts"),
    "1,025 texts": (Infer([Tensor([b"a"] * 1025)]), INVALID, "text: has 1,025 texts"),
    "more texts than the shape": (Infer([Tensor(THREE, shape=[2])]), INVALID, "text: has "),
    "fewer texts than the shape": (Infer([Tensor(shape=[2])]), INVALID, "text: has 1 whole elem"),
    "a blank text": (Infer([Tensor([b"a", b" "])]), INVALID, "text[1]: is blank"),
    "an empty text": (Infer([Tensor([b""])]), INVALID, "text[0]: is blank"),
    "a text that is too long": (
        Infer([Tensor([b"a" * 32_769])]),
        INVALID,
        "text[0]: has 32,769 characters",
    ),
    "no UTF-8": (Infer([Tensor([b"a", b"\xff"])]), INVALID, "text[1]: is not UTF-8"),
    "half of a pair": (Infer([Tensor([b"\xed\xa0\x80"])]), INVALID, "text[0]: is not UTF-8"),
    "overlong UTF-8": (Infer([Tensor([b"\xc0\xaf"])]), INVALID, "text[0]: is not UTF-8"),
    # Bytes.
    "no bytes": (Infer([Tensor(raw=b"")]), INVALID, "text: has 0 whole elements"),
    "half of a length": (Infer([Tensor(raw=b"\1\0")]), INVALID, "text: has 0 whole elements"),
    "bytes cut short": (Infer([Tensor(raw=b"\4\0\0\0goo")]), INVALID, "text: has 0 whole elements"),
    "a huge length": (Infer([Tensor(raw=b"\xff" * 8)]), INVALID, "text: has 0 whole elements"),
    "bytes behind": (Infer([Tensor(raw=b"\1\0\0\0ab")]), INVALID, "text: has 1 bytes more than"),
    "an element behind": (
        Infer([Tensor(raw=b"\1\0\0\0a\1\0\0\0b")]),
        INVALID,
        "text: has 5 bytes more than",
    ),
    "texts and bytes": (Infer([Tensor(both=True)]), INVALID, ""),
    # Outputs.
    "an unknown output": (Infer(outputs=[Output("x")]), INVALID, "outputs: there is no 'x'"),
    "an output without a name": (Infer(outputs=[Output("")]), INVALID, "outputs: there is no ''"),
    "an input as output": (Infer(outputs=[Output("text")]), INVALID, "outputs: there is no 'text'"),
    "an output twice": (
        Infer(outputs=[Output("label"), Output("label")]),
        INVALID,
        "outputs: names a tensor twice",
    ),
    "too many outputs": (
        Infer(outputs=[Output("label")] * 5),
        INVALID,
        "outputs: names 5 tensors; there are label, score, scores, truncated",
    ),
    # Parameters.
    "classification": (
        Infer(outputs=[Output("scores", {"classification": 1})]),
        INVALID,
        "outputs[0].parameters: 'classification' is not known here",
    ),
    "an output in shared memory": (
        Infer(outputs=[Output("label"), Output("score", SHARED)]),
        INVALID,
        "outputs[1].parameters: 'shared_memory_region' is not known here",
    ),
    "an input in shared memory": (
        Infer([Tensor(parameters=SHARED)]),
        INVALID,
        "text.parameters: 'shared_memory_region' is not known here",
    ),
    "an unknown parameter": (
        Infer(parameters={"foo": "bar"}),
        INVALID,
        "parameters: 'foo' is not known here",
    ),
    "a sequence": (
        Infer(parameters={"sequence_id": 7}),
        INVALID,
        "parameters: 'sequence_id' is not known here",
    ),
    "a priority": (
        Infer(parameters={"priority": 1}),
        INVALID,
        "parameters: 'priority' is not known here",
    ),
    "an unknown parameter of the input": (
        Infer([Tensor(parameters={"foo": False})]),
        INVALID,
        "text.parameters: 'foo' is not known here",
    ),
    "an unknown parameter of an output": (
        Infer(outputs=[Output("label", {"foo": 0})]),
        INVALID,
        "outputs[0].parameters: 'foo' is not known here",
    ),
    "another type of content": (
        Infer([Tensor(parameters={"content_type": "base64"})]),
        INVALID,
        "text.parameters: content_type is 'base64'; it must be 'str'",
    ),
    "a type of content that is no text": (
        Infer(parameters={"content_type": 7}),
        INVALID,
        "parameters: content_type is '7'; it must be 'str'",
    ),
    # Models.
    "an unknown model": (Infer(model="other"), MISSING, "there is no model other"),
    "an unknown version": (Infer(version="9"), MISSING, "version '9' of reviews"),
    "a model without a version": (Infer(model="news"), NOT_YET, "train one first"),
}
BY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@BY_WAY
@pytest.mark.parametrize("case", ANSWERED)
async def test_what_the_protocol_knows_is_answered(mesh: OneReplica, way: Way, case: str) -> None:
    infer, names = ANSWERED[case]
    if all(tensor.shape is None for tensor in infer.inputs):
        infer = Infer(
            [Tensor(THREE, parameters=tensor.parameters) for tensor in infer.inputs],
            *(infer.outputs, infer.id, infer.model, infer.version, infer.parameters),
        )
    answer = await way(mesh, infer)
    parameters = {"version": "1", "alias": "Champion", "replica": "replica-1"}
    by_name = {output[0]: output for output in OUTPUTS}
    assert answer == Success(
        "reviews", "1", infer.id, parameters, [by_name[name] for name in names]
    )


@pytest.mark.parametrize(
    ("way", "infer", "code", "problem"),
    [
        pytest.param(way, *row, id=f"{case}-{way.__name__}")
        for case, row in REFUSED.items()
        for way in WAYS
        if can_say(way, row[0])
    ],
)
async def test_what_one_way_refuses_the_others_refuse(
    mesh: OneReplica, way: Way, infer: Infer, code: StatusCode, problem: str
) -> None:
    answer = await way(mesh, infer)
    assert isinstance(answer, Failure), answer
    assert code in answer.codes
    assert problem in answer.problem


@BY_WAY
@pytest.mark.parametrize("name", ["Reviews", "a.b", "_a", "a" * 41, "a%2Fb"])
async def test_a_name_that_no_model_can_have_is_refused(
    mesh: OneReplica, way: Way, name: str
) -> None:
    answer = await way(mesh, Infer(model=name))
    # In a path the name is a place where nothing is; in a message it is a field that is wrong.
    assert isinstance(answer, Failure)
    assert answer.codes == ((MISSING,) if "http" in way.__name__ else (INVALID,))
    assert "is not a model name" in answer.problem
