"""Tensors of the Open Inference Protocol, in bytes and in JSON."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_svc.doors.oip.json_bodies import read_request, write_answer
from inference_svc.doors.oip.tensors import (
    OUTPUTS,
    OutputTensor,
    check_input,
    check_outputs,
    join_elements,
    split_elements,
    texts_of,
)
from service_kit.errors import InvalidArgument

TEXTS = st.lists(st.text(), min_size=1, max_size=20)


def body(data: Any = ("a",), **fields: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor | fields]}


def encoded(request: Any) -> bytes:
    return json.dumps(request).encode()


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_elements_come_back_from_their_bytes(elements: list[bytes]) -> None:
    assert split_elements(join_elements(elements), len(elements)) == elements


@given(st.binary(max_size=200), st.integers(0, 20))
def test_any_bytes_are_elements_or_refused(raw: bytes, count: int) -> None:
    with suppress(InvalidArgument):
        assert join_elements(split_elements(raw, count)) == raw


@pytest.mark.parametrize(
    ("raw", "count", "problem"),
    [
        (b"", 1, "text: has 0 whole elements; its shape says 1"),
        (b"\x01\0\0", 1, "text: has 0 whole elements"),
        (b"\xff\xff\xff\xffabc", 1, "text: has 0 whole elements"),
        (b"\x01\0\0\0a\x01\0\0\0b", 1, "text: has 5 bytes more than the 1 elements"),
    ],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(raw: bytes, count: int, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        split_elements(raw, count)
    assert str(refused.value).startswith(problem)


@given(TEXTS)
def test_texts_come_back_from_json_and_from_binary_data(texts: list[str]) -> None:
    shape = [len(texts)]
    assert read_request(encoded(body(texts, shape=shape)), None).texts == texts
    rows = [[text] for text in texts]
    assert read_request(encoded(body(rows, shape=[*shape, 1])), None).texts == texts
    raw = join_elements([text.encode() for text in texts])
    request = body(shape=shape, parameters={"binary_data_size": len(raw)})
    del request["inputs"][0]["data"]
    header = encoded(request)
    assert read_request(header + raw, str(len(header))).texts == texts


@given(st.binary(max_size=100), st.one_of(st.none(), st.text(max_size=5), st.integers().map(str)))
def test_any_body_is_read_or_refused(content: bytes, json_bytes: str | None) -> None:
    with pytest.raises(InvalidArgument):
        read_request(content, json_bytes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(["name", "shape", "datatype", "data", "parameters"]),
    st.sampled_from(["id", "inputs", "outputs", "parameters"]),
    json_values,
    json_values,
)
def test_a_field_of_any_type_is_read_or_refused(
    field: str, outer: str, value: Any, outer_value: Any
) -> None:
    for request in (body(**{field: value}), body() | {outer: outer_value}):
        with suppress(InvalidArgument):
            assert len(read_request(encoded(request), None).texts) == 1


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ([], "body: is not a JSON object"),
        ({}, "inputs: is not a list"),
        ({"inputs": []}, "inputs: one tensor 'text' is taken; sent: none"),
        (body(name="words"), "inputs: one tensor 'text' is taken; sent: words"),
        (body(datatype="FP32"), "text: has datatype 'FP32'; it must be BYTES"),
        (body(shape=[1, 2]), "text: has shape [1, 2]; it must be [n] or [n, 1]"),
        (body(shape=[-1]), "text: has shape [-1]; it must be [n] or [n, 1]"),
        (body(shape=[1025]), "text: has 1,025 texts; send 1 to 1,024 a request"),
        (body(shape=[0]), "text: has 0 texts; send 1 to 1,024 a request"),
        (body(shape=[True]), "text: has a shape that is not a list of whole numbers"),
        (body(shape=[2]), "text: has 1 whole elements; its shape says 2"),
        (body([7]), "text[0]: is not a string"),
        (body(["\ud800"]), "text[0]: has half of a surrogate pair"),
        (body(parameters={"binary_data_size": 3}), "text: has binary_data_size 3; 0 bytes follow"),
        (body() | {"outputs": [{"name": "x"}]}, "outputs: there is no 'x'; there are label, "),
        (body() | {"outputs": [{"name": "label"}] * 2}, "outputs: names a tensor twice"),
        (
            body() | {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "outputs[0].parameters: classification is not known here",
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(request_: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_request(encoded(request_), None)
    assert str(refused.value).startswith(problem)


def test_a_length_of_five_thousand_digits_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Inference-Header-Content-Length"):
        read_request(encoded(body()), "9" * 5000)


def test_half_of_a_surrogate_pair_goes_back_as_it_came() -> None:
    id_ = read_request(encoded(body() | {"id": "\ud800"}), None).id
    assert json.loads(write_answer({"id": id_}, [], frozenset()).content)["id"] == "\ud800"


def test_text_that_is_not_utf8_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"text\[1\]: is not UTF-8"):
        texts_of([b"a", b"\xff"], 2)


def test_outputs_are_those_asked_for_in_their_order_or_all() -> None:
    assert check_outputs([]) == OUTPUTS
    assert check_outputs(["scores", "label"]) == ("scores", "label")


def test_each_output_is_binary_as_asked() -> None:
    outputs = [
        {"name": "label", "parameters": {"binary_data": False}},
        {"name": "score"},
    ]
    request = body() | {"outputs": outputs, "parameters": {"binary_data_output": True}}
    assert read_request(encoded(request), None).binary == {"score"}
    everything = body() | {"parameters": {"binary_data_output": True}}
    assert read_request(encoded(everything), None).binary == set(OUTPUTS)
    assert not read_request(encoded(body()), None).binary


def test_binary_outputs_stand_behind_the_json_in_order() -> None:
    tensors = [
        OutputTensor("label", "BYTES", (1,), ["ü"], b"AA"),
        OutputTensor("score", "FP32", (1,), [0.5], b"BBBB"),
        OutputTensor("scores", "FP32", (1, 2), [0.5, 0.5], b"CC", {"labels": "[]"}),
    ]
    written = write_answer({"id": "7"}, tensors, frozenset({"label", "scores"}))
    assert written.json_bytes is not None
    assert written.content[written.json_bytes :] == b"AACC"
    answer = json.loads(written.content[: written.json_bytes])
    assert answer["id"] == "7"
    sizes = [o.get("parameters", {}).get("binary_data_size") for o in answer["outputs"]]
    assert sizes == [2, None, 2]
    assert ["data" in output for output in answer["outputs"]] == [False, True, False]
    assert write_answer({}, tensors, frozenset()).json_bytes is None


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_a_shape_says_how_many_texts_there_are(shape: list[int]) -> None:
    assert check_input(["text"], "BYTES", shape) == 3
