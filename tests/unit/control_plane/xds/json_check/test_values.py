"""What the check of JSON requests takes and refuses."""

import json

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.v1 import data_pb2, predict_pb2, train_pb2
from tests.unit.control_plane.xds.json_check.lua_request import LuaRequest

PREDICT = "/v1/models/reviews:predict"
ADD = "/v1/models/reviews/examples"
TRAIN = "/v1/models/reviews:train"
LUA = LuaRequest()

REFUSED = [
    (PREDICT, b'{"texts":["a",null]}', "texts[1]", "null"),
    (PREDICT, b'{"texts":["ok",null,""]}', "texts[1]", "null"),
    (PREDICT, b'{"texts":[["a","b"],"c"]}', "texts[0]", "a list"),
    (PREDICT, b'{"texts":["a",{"b":1}]}', "texts[1]", "an object"),
    (PREDICT, b'{"texts":"one"}', "texts", "must be a list"),
    (PREDICT, b'{"texts":["a",1]}', "texts[1]", "a number"),
    (PREDICT, b'{"texts":["a",-1]}', "texts[1]", "a number"),
    (PREDICT, b'{"texts":[true]}', "texts[0]", "true or false"),
    (PREDICT, b'{"texts":["a"],"texts":["b"]}', "texts", "twice"),
    (PREDICT, b'{"allScores":true,"all_scores":true}', "all_scores", "twice"),
    (PREDICT, b'{"texts":["a"],"foo":1}', "body", "foo"),
    (PREDICT, b'{"Texts":["a"]}', "body", "Texts"),
    (PREDICT, b'{"allScores":"true"}', "all_scores", "must be true or false"),
    (PREDICT, b'{"allScores":1}', "all_scores", "must be true or false"),
    (PREDICT, b'{"allScores":tru}', "all_scores", "no JSON"),
    (PREDICT, b'{"allScores":nil}', "all_scores", "no JSON"),
    (PREDICT, b'{"model":"others","texts":["a"]}', "model", "the path says 'reviews'"),
    (PREDICT, b'{"model":"","texts":["a"]}', "model", "the path says 'reviews'"),
    (PREDICT, b'{"model":["reviews"]}', "model", "must be a string"),
    (PREDICT, b"null", "body", "must be an object"),
    (PREDICT, b"[]", "body", "must be an object"),
    (PREDICT, b'"a"', "body", "must be an object"),
    (PREDICT, b"7", "body", "must be an object"),
    (PREDICT, b"  ", "body", "too early"),
    (PREDICT, b"hello", "body", "expected"),
    (PREDICT, b'\xef\xbb\xbf{"texts":["a"]}', "body", "expected"),
    (PREDICT, b'{"texts":["a"]', "body", "too early"),
    (PREDICT, b'{"texts":["a', "texts[0]", "too early"),
    (PREDICT, b'{"texts":["a"]}{}', "body", "expected"),
    (PREDICT, b'{"texts":["a"]} x', "body", "expected"),
    (PREDICT, b"{'texts':['a']}", "body", "double quotes"),
    (PREDICT, b'{texts:["a"]}', "body", "double quotes"),
    (PREDICT, b'{"texts":["a",]}', "texts[1]", "expected"),
    (PREDICT, b'{"texts":["a"],}', "body", "expected"),
    (PREDICT, b'{"texts":["a"]/**/}', "body", "expected"),
    (PREDICT, b'{"texts" ["a"]}', "texts", "expected"),
    (PREDICT, b'{"texts":["a" "b"]}', "texts", "expected"),
    (PREDICT, b'{"texts":["\\x"]}', "texts[0]", "escape sequence"),
    (PREDICT, b'{"texts":["\\u12g4"]}', "texts[0]", "escape sequence"),
    (PREDICT, b'{"texts":["\\ud800"]}', "texts[0]", "surrogate"),
    (PREDICT, b'{"texts":["a","\\ude00"]}', "texts[1]", "surrogate"),
    (PREDICT, b'{"texts":["\\ud83d\\n"]}', "texts[0]", "surrogate"),
    (PREDICT, b'{"texts":["\\ud83d\\ud83d"]}', "texts[0]", "surrogate"),
    (PREDICT, b'{"texts":["a\tb"]}', "texts[0]", "control character"),
    (PREDICT, b'{"texts":["a\x00b"]}', "texts[0]", "control character"),
    (PREDICT, b'{\x0b"texts":["a"]}', "body", "control character"),
    (PREDICT, b'{"' + b"k" * 2000 + b'":1}', "body", "too long"),
    (ADD, b'{"examples":[{"text":"a","label":"b"},null]}', "examples[1]", "null"),
    (ADD, b'{"examples":[{"text":"a","label":5}]}', "examples[0].label", "a string"),
    (ADD, b'{"examples":[{"text":"a","lable":"b"}]}', "examples[0]", "lable"),
    (ADD, b'{"examples":[{"text":"a","text":"b"}]}', "examples[0].text", "twice"),
    (ADD, b'{"examples":{"text":"a","label":"b"}}', "examples", "must be a list"),
    (ADD, b'{"examples":[' + b"{}," * 10_000 + b"{}]}", "examples", "10000"),
    (TRAIN, b'{"params":{"epochs":1.5}}', "params.epochs", "1.5"),
    (TRAIN, b'{"params":{"epochs":3000000000}}', "params.epochs", "whole number"),
    (TRAIN, b'{"params":{"epochs":01}}', "params.epochs", "01"),
    (TRAIN, b'{"params":{"epochs":"two"}}', "params.epochs", "two"),
    (TRAIN, b'{"params":{"epochs":" 2"}}', "params.epochs", "whole number"),
    (TRAIN, b'{"params":{"epochs":true}}', "params.epochs", "whole number"),
    (TRAIN, b'{"params":{"learningRate":1e400}}', "params.learning_rate", "double"),
    (TRAIN, b'{"params":{"learningRate":NaN}}', "params.learning_rate", "expected"),
    (TRAIN, b'{"params":{"learningRate":.5}}', "params.learning_rate", "expected"),
    (TRAIN, b'{"params":{"learningRate":5.}}', "params.learning_rate", "double"),
    (TRAIN, b'{"params":[]}', "params", "must be an object"),
    (TRAIN, b'{"promotion":"promotion_auto"}', "promotion", "none of its values"),
    (TRAIN, b'{"promotion":false}', "promotion", "must be"),
]

TAKEN = [
    (PREDICT, b""),
    (PREDICT, b"{}"),
    (PREDICT, b'{"texts":["a"],"all_scores":true}'),
    (PREDICT, b' {"texts" : [ "a" ,\r\n\t"b" ] , "allScores" : false } \n'),
    (PREDICT, b'{"texts":null,"allScores":null}'),
    (PREDICT, b'{"model":"reviews","texts":["a"]}'),
    (PREDICT, b'{"model":null,"texts":["a"]}'),
    (PREDICT, b'{"\\u0074exts":["\\u00e9\\ud83d\\ude00\\"\\\\\\/\\b\\f\\n\\r\\t"]}'),
    (PREDICT, '{"texts":["ä€😀\x7f"]}'.encode()),
    # The services say how many texts may come, and that invalid UTF-8 is no text.
    (PREDICT, b'{"texts":[]}'),
    (PREDICT, b'{"texts":["\xff\xfe"]}'),
    (TRAIN, b'{"params":{"epochs":2,"learningRate":1e-3,"seed":-0,"maxLength":1.28e2}}'),
    (TRAIN, b'{"params":{"epochs":"2","learningRate":"0.5"}}'),
    (TRAIN, b'{"params":{"learningRate":"Infinity"},"promotion":"PROMOTION_AUTO"}'),
    (TRAIN, b'{"params":null,"promotion":1}'),
    (ADD, b'{"examples":[{"text":"a","label":"b","split":"test"},{}]}'),
]


@pytest.mark.parametrize(("path", "body", "field", "words"), REFUSED)
def test_a_value_that_protojson_refuses_is_refused_by_its_place(
    path: str, body: bytes, field: str, words: str
) -> None:
    verdict = LUA.check(path, body)
    assert verdict.field == field
    assert words in verdict.problem


@pytest.mark.parametrize(("path", "body"), TAKEN)
def test_a_right_body_passes_unchanged(path: str, body: bytes) -> None:
    verdict = LUA.check(path, body)
    assert (verdict.problem, verdict.passed) == ("", body)


@pytest.mark.parametrize(
    ("path", "body"), [*TAKEN, *((path, body) for path, body, *_ in REFUSED if len(body) < 200)]
)
def test_the_verdict_is_the_same_wherever_the_body_is_cut(path: str, body: bytes) -> None:
    whole = LUA.check(path, body)
    for cut in range(1, len(body)):
        parts = LUA.check(path, body[:cut], body[cut:])
        assert (parts.field, parts.problem) == (whole.field, whole.problem), cut
    single = LUA.check(path, *(body[at : at + 1] for at in range(len(body))))
    assert (single.field, single.problem) == (whole.field, whole.problem)


@pytest.mark.parametrize(
    ("path", "body"), [(path, body) for path, body, *_ in REFUSED if len(body) < 200]
)
def test_no_json_parser_takes_what_passes_of_a_refused_body(path: str, body: bytes) -> None:
    for cut in range(1, len(body) + 1):
        # An empty last chunk: Envoy learns of the body's end when all of it has been passed on.
        passed = LUA.check(path, body[:cut], body[cut:], b"").passed
        with pytest.raises(json.JSONDecodeError):
            json.loads(passed)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**33), 2**33),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8).filter(lambda text: text.isascii()),
    st.sampled_from(["PROMOTION_AUTO", "PROMOTION_CHALLENGER_ONLY", "reviews", "2", "1.5"]),
)
FIELDS = ("model", "texts", "allScores", "all_scores", "id", "examples", "text", "label", "params")
MORE_FIELDS = ("epochs", "learningRate", "promotion", "requestId", "seed", "x")
names = st.sampled_from([*FIELDS, *MORE_FIELDS])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(names, values, max_size=4)


@given(bodies, st.sampled_from([PREDICT, ADD, TRAIN]))
@example({"params": {"epochs": 1.0}}, TRAIN)
def test_the_check_and_protobufs_own_parser_agree(body: dict[str, object], path: str) -> None:
    requests: dict[str, Message] = {
        PREDICT: predict_pb2.PredictRequest(),
        ADD: data_pb2.AddExamplesRequest(),
        TRAIN: train_pb2.TrainRequest(),
    }
    body = body | ({"model": "reviews"} if "model" in body else {})
    try:
        json_format.ParseDict(body, requests[path])
        taken = True
    except json_format.ParseError:
        taken = False
    verdict = LUA.check(path, json.dumps(body).encode())
    # Python's parser reads quoted numbers that JSON does not have, such as "1_0" and " 1".
    if taken and verdict.problem:
        assert "number" in verdict.problem, verdict
    else:
        assert taken == (verdict.problem == ""), verdict
