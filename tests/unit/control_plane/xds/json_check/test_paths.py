"""The path decides: what the check makes of a query, and which requests it looks at."""

import pytest

from control_plane.xds.basics.contract_paths import descriptor
from control_plane.xds.json_check.schema import schema_of
from tests.unit.control_plane.xds.json_check.lua_request import LuaRequest

LUA = LuaRequest()
BATCHES = "/v1/models/nobody/batches"
PREDICT = "/v1/models/nobody:predict"
NULL = b'{"texts":[null]}'


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", f"{BATCHES}?model=reviews", "model"),
        ("GET", f"{BATCHES}?limit=1&model=reviews", "model"),
        ("GET", f"{BATCHES}?%6dodel=reviews", "model"),
        ("GET", f"{BATCHES}?model", "model"),
        ("GET", f"{BATCHES}?model.x=reviews", "model"),
        ("GET", f"{BATCHES}/?model=reviews", "model"),
        ("GET", f"{BATCHES}?limit=1&limit=2", "limit"),
        ("GET", f"{BATCHES}?page_size=1&pageSize=2", "pageSize"),
        ("GET", "/v1/trainings/7?id=8", "id"),
        ("GET", "/v1/trainings/7:watch?id=8", "id"),
        ("DELETE", "/v1/models/nobody?model=reviews", "model"),
        ("PUT", "/v1/models/nobody/traffic?model=reviews", "model"),
        ("POST", f"{PREDICT}?model=reviews", "model"),
    ],
)
def test_a_query_cannot_give_a_field_of_the_path_or_one_twice(
    method: str, path: str, field: str
) -> None:
    verdict = LUA.check(path, method=method)
    assert (verdict.field, verdict.status) == (field, "400")


def test_every_path_with_a_variable_refuses_it_in_the_query_and_another_value_in_the_body() -> None:
    bound = [method for method in schema_of(descriptor()).methods if method.variables]
    assert len(bound) > 20
    for method in bound:
        (name,) = method.variables
        path = method.template.replace("{" + name + "}", "nobody")
        assert LUA.check(f"{path}?{name}=reviews", method=method.verb).field == name, path
        if method.has_body:
            body = b'{"%s":"reviews"}' % name.encode()
            assert LUA.check(path, body, method=method.verb).field == name, path
            assert LUA.check(path, body.replace(b"reviews", b"nobody")).problem == ""


def test_a_field_that_the_body_gives_cannot_stand_in_the_query_as_well() -> None:
    assert LUA.check(f"{PREDICT}?allScores=true", b'{"texts":["a"]}').problem == ""
    assert LUA.check(f"{PREDICT}?all_scores=true", b'{"allScores":true}').field == "all_scores"


def test_a_path_is_compared_as_the_transcoder_reads_it() -> None:
    assert LUA.check("/v1/models/re%76iews:predict", b'{"model":"reviews"}').problem == ""
    assert LUA.check("/v1/models/reviews:predict/", NULL).field == "texts[0]"
    assert LUA.check("/v1/models/a:b:predict", b'{"model":"a:b"}').problem == ""


@pytest.mark.parametrize("path", ["/v1/models/a/b:predict", "/v1/nothing", "/v1/models/a:Predict"])
def test_a_path_without_a_method_is_left_to_the_transcoder(path: str) -> None:
    assert LUA.check(path, NULL).passed == NULL


def test_grpc_is_not_looked_at() -> None:
    for kind in ("application/grpc", "application/grpc+proto", "application/grpc-web"):
        assert LUA.check(PREDICT, NULL, content_type=kind).passed == NULL
