"""Requests and answers of the Open Inference Protocol over HTTP, as JSON and binary data."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_svc.doors.oip.json_bodies import read_request, write_answer
from inference_svc.doors.oip.tensors import OUTPUTS, OutputTensor, join_elements
from service_kit.errors import InvalidArgument

TEXTS = st.lists(st.text(), min_size=1, max_size=20)


def body(data: Any = ("a",), **fields: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor | fields]}


def encoded(request: Any) -> bytes:
    return json.dumps(request).encode()


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
            "outputs[0].parameters: 'classification' is not known here; known are binary_data",
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


@pytest.mark.parametrize(
    "request_",
    [
        body() | {"id": None, "outputs": None, "parameters": None},
        body() | {"model_name": None, "model_version": None},
        body(parameters=None),
        body(parameters={"binary_data_size": None, "content_type": None, "anything": None}),
        body() | {"parameters": {"binary_data_output": None, "anything": None}},
        body() | {"outputs": [{"name": n, "parameters": None} for n in OUTPUTS]},
        body()
        | {"outputs": [{"name": n, "parameters": {"classification": None}} for n in OUTPUTS]},
    ],
)
def test_null_is_absent(request_: Any) -> None:
    read = read_request(encoded(request_), None)
    assert (read.id, read.texts, read.outputs, read.binary) == ("", ["a"], OUTPUTS, frozenset())


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (body() | {"id": "\ud800"}, "id: has half of a surrogate pair"),
        (body() | {"id": 7}, "id: is not a string"),
        (body() | {"foo": 1}, "body: has the field 'foo'; known are id, inputs, "),
        (body(foo=1), "inputs[0]: has the field 'foo'; known are name, "),
        (body() | {"outputs": [{"name": "label", "foo": 1}]}, "outputs[0]: has the field 'foo'"),
        (body() | {"outputs": [{"name": "label"}] * 5}, "outputs: names 5 tensors; there are "),
        (body() | {"model_name": "other"}, "model_name: is not that of the path, 'reviews'"),
        (body() | {"model_version": "2"}, "model_version: is not that of the path, ''"),
        (body(parameters={"foo": 1}), "text.parameters: 'foo' is not known here"),
        (body(parameters={"shared_memory_region": "a"}), "text.parameters: 'shared_memory_region'"),
        (body(parameters={"content_type": "base64"}), "text.parameters: content_type is 'base64'"),
        (body() | {"parameters": {"priority": 1}}, "parameters: 'priority' is not known here"),
        (body() | {"parameters": {"binary_data_output": 1}}, "binary_data_output: is neither"),
        (body() | {"parameters": []}, "parameters: is not a JSON object"),
        (body([None]), "text[0]: is not a string"),
        (body(["a", None], shape=[2]), "text[1]: is not a string"),
        (body("a"), "text.data: is not a list"),
        (body([["a"]]), "text[0]: is not a string"),
        (body([["a", "b"]], shape=[2]), "text[0]: is not a string"),
        (body([["a", "b"]], shape=[2, 1]), "text.data: has a row without exactly one text"),
        (body([["a"], "b"], shape=[2, 1]), "text[0]: is not a string"),
        (body([[["a"]]], shape=[1, 1]), "text[0]: is not a string"),
        (body([], shape=[1, 1]), "text: has 0 whole elements; its shape says 1"),
        (body(shape=[1.0]), "text: has a shape that is not a list of whole numbers"),
        (body(shape=[10**400]), "text: has far too many texts"),
        (body(None), "text.data: is not a list"),
    ],
)
def test_what_is_not_in_the_protocol_is_refused(request_: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_request(encoded(request_), None, "reviews")
    assert str(refused.value).startswith(problem)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"inputs": [], "inputs": []}', "body: has the field 'inputs' twice in one object"),
        (b'{"inputs": [{"name": "text", "name": "text"}]}', "body: has the field 'name' twice"),
        (b'{"id": null, "id": "7", "inputs": []}', "body: has the field 'id' twice"),
        (b'{"id": NaN}', "body: is not JSON: NaN is no JSON value"),
        (b'{"id": -Infinity}', "body: is not JSON: -Infinity is no JSON value"),
        (b'{"id": "\xff"}', "body: is not JSON: 'utf-8' codec"),
        (b'{"id": "\xed\xa0\x80"}', "body: is not JSON: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "body: is not JSON: Unexpected UTF-8 BOM"),
        ("{}".encode("utf-16"), "body: is not JSON: 'utf-8' codec"),
        (b"{} {}", "body: is not JSON: Extra data"),
        (b'{"id": "7",}', "body: is not JSON: "),
        (b"null", "body: is not a JSON object"),
    ],
)
def test_what_is_not_strictly_json_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_request(content, None)
    assert str(refused.value).startswith(problem)


def test_data_in_json_and_as_bytes_at_once_is_refused() -> None:
    raw = join_elements([b"a"])
    header = encoded(body(["a"], parameters={"binary_data_size": len(raw)}))
    with pytest.raises(InvalidArgument, match="text: has data, and binary_data_size as well"):
        read_request(header + raw, str(len(header)))


@pytest.mark.parametrize("unit", [",{}", ',""', ",[]", ",1", ',{"a":1}', ",[[[]]]"])
def test_a_body_of_millions_of_values_is_refused_before_it_is_read(unit: str) -> None:
    content = f'{{"inputs":[0{unit * (8_000_000 // len(unit))}]}}'.encode()
    started = time.process_time()
    with pytest.raises(InvalidArgument, match="body: has more than 8,192 values"):
        read_request(content, None)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", [",[{" * 10_000, '\\"' * 10_000, '",{' * 10_000, "[" * 32_768])
def test_commas_and_brackets_in_texts_are_no_values(text: str) -> None:
    texts = [text] * 4
    assert read_request(encoded(body(texts, shape=[4])), None).texts == texts


@given(st.text('\\"[{,a', max_size=40))
def test_values_are_counted_outside_of_strings_only(junk: str) -> None:
    # Whatever the junk is, with its quotes and escapes: the body is JSON, and has few values.
    texts = [junk, "," * 9_000]
    assert read_request(encoded(body(texts, shape=[2])), None).texts == texts


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
