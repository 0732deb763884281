"""Who may call: every method, at every door, with every kind of bad token."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import unquote

import pytest
import pytest_asyncio

from control_plane.access.rules import AccessRules, Scope
from control_plane.xds.access.method_scopes import SCOPE_OF
from control_plane.xds.basics import names
from tests.integration.access.doors import Answer, Way, call, ways
from tests.integration.access.guarded_mesh import TOKENS, GuardedMesh, guarded_mesh
from tests.integration.doors.raw_http import answer_to
from tests.real_parts.postgres import execute, new_database
from tests.real_parts.tokens import SigningKey, unsigned, with_claims
from tests.real_parts.waiting import until_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

Tokens = Callable[[GuardedMesh, Way], str | None]
STRANGER = SigningKey("first")
PREDICT = "/v1/models/reviews:predict"
ALL = tuple(Scope)


def _others(way: Way) -> Iterator[str]:
    return (scope for scope in ALL if scope is not way.scope)


# The services check the model, all others are refused by Envoy.
COLUMNS: dict[str, Tokens] = {
    "no token": lambda mesh, way: None,
    "expired": lambda mesh, way: mesh.key.token(*ALL, exp=int(time.time()) - 3),
    "wrong scope": lambda mesh, way: mesh.key.token(*_others(way)),
    "no scope": lambda mesh, way: mesh.key.token(),
    "a scope's part": lambda mesh, way: mesh.key.token(f"pre{way.scope}", f"{way.scope}s"),
    "wrong model": lambda mesh, way: mesh.key.token(way.scope, models="films* reviews_2 review"),
    "no model": lambda mesh, way: mesh.key.token(way.scope, models=None),
    "tampered": lambda mesh, way: with_claims(mesh.key.token(*_others(way)), scope=" ".join(ALL)),
    "alg: none": lambda mesh, way: unsigned(mesh.key.token(*ALL)),
    "alg: HS256": lambda mesh, way: unsigned(mesh.key.token(*ALL), "HS256", "AAAA"),
    "other key": lambda mesh, way: STRANGER.token(*ALL),
    "other issuer": lambda mesh, way: mesh.key.token(*ALL, iss="https://other.example"),
    "no issuer": lambda mesh, way: mesh.key.token(*ALL, iss=None),
    "other audience": lambda mesh, way: mesh.key.token(*ALL, aud="another-mesh"),
    "no expiry": lambda mesh, way: mesh.key.token(*ALL, exp=None),
    "no JWT": lambda mesh, way: "secret",
    "revoked": lambda mesh, way: mesh.key.token(*ALL, jti="revoked"),
}
FORBIDDEN = ("wrong scope", "no scope", "a scope's part")
# What such a token gets of a method that names no model is filtered, which other tests show.
OTHER_MODELS = ("wrong model", "no model")


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[False, True], ids=["closed", "open"]
)
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, request: pytest.FixtureRequest
) -> AsyncIterator[GuardedMesh]:
    rules = AccessRules(open_predict=request.param)
    folder = tmp_path_factory.mktemp("access")
    with new_database(postgres_server) as url:
        execute(url, TOKENS)
        async with guarded_mesh(folder, url, rules) as running:
            running.revoke("revoked")
            await until_async(lambda: _is_refused(running), timeout_s=5)
            yield running
            assert running.envoy.log.read_text() == "", "Envoy itself logs no warning"


async def _is_refused(mesh: GuardedMesh) -> bool:
    token = mesh.key.token(*ALL, jti="revoked")
    return (await call(mesh.http, mesh.channel, ANY_WAY, token)).unauthenticated


ANY_WAY = Way("gRPC", "/mesh.v1.ReloadService/GetFleet", "POST", "/mesh.v1.ReloadService/GetFleet")


async def test_every_method_at_every_door_refuses_every_bad_token(
    mesh: GuardedMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    table: dict[str, list[str]] = defaultdict(list)
    wrong = []
    for way in ways():
        for column, token in COLUMNS.items():
            answer = await call(mesh.http, mesh.channel, way, token(mesh, way))
            table[f"{way.door:8} {way.verb:6} {way.path}"].append(str(answer))
            if not _as_it_should_be(mesh, way, column, answer):
                wrong.append(f"{way.door} {way.path}, {column}: {answer} {answer.words}")
    with capsys.disabled():
        state = "open" if mesh.rules.open_predict else "closed"
        print("", f"predict is {state}", sep="\n")
        print(" | ".join(("door, method", *COLUMNS)))
        for row, cells in table.items():
            print(f"{row:72} {' '.join(cells)}")
    assert not wrong, "\n".join(wrong)
    methods = {way.method for way in ways()}
    assert methods >= SCOPE_OF.keys()


def _as_it_should_be(mesh: GuardedMesh, way: Way, column: str, answer: Answer) -> bool:
    if column == "no token" and mesh.rules.open_predict and way.scope is Scope.PREDICT:
        return not answer.refused
    if column in OTHER_MODELS:
        return answer.denied if way.names_model else not answer.refused
    return answer.denied if column in FORBIDDEN else answer.unauthenticated


async def test_a_token_with_the_scope_passes_at_every_door(mesh: GuardedMesh) -> None:
    for way in ways():
        answer = await call(mesh.http, mesh.channel, way, mesh.key.token(way.scope))
        assert not answer.refused, f"{way}: {answer.words}"


async def test_refusals_say_what_is_wrong_and_what_helps(mesh: GuardedMesh) -> None:
    reload = Way("gRPC", "", "POST", "/mesh.v1.ReloadService/Reload")
    over_json = Way("JSON", "", "POST", "/v1/models/reviews:reload")
    over_web = Way("gRPC-Web", "", "POST", "/mesh.v1.ReloadService/Reload")
    told: dict[str, str | None] = {
        "this call needs the scope release; the token has predict view": mesh.key.token(
            "predict", "view"
        ),
        "a token is needed for this call": None,
        "the token has expired": mesh.key.token(*ALL, exp=1),
        "signature is wrong": STRANGER.token(*ALL),
        "not in use any more": SigningKey("unknown").token(*ALL),
        "an issuer that this mesh does not trust": mesh.key.token(*ALL, iss="https://a.example"),
        "another audience": mesh.key.token(*ALL, aud="b"),
        "alg is not one that is taken": unsigned(mesh.key.token(*ALL), "none", "AAAA"),
        "is revoked": mesh.key.token(*ALL, jti="revoked"),
        "is no JWT with a signature": unsigned(mesh.key.token(*ALL)),
        "or it has no expiry": mesh.key.token(*ALL, exp=None),
    }
    for words, token in told.items():
        for way in (reload, over_json, over_web):
            answer = await call(mesh.http, mesh.channel, way, token)
            assert words in unquote(answer.words), f"{words}: {answer.words}"


async def test_nobody_else_can_say_who_calls(mesh: GuardedMesh) -> None:
    pretended = dict.fromkeys(names.CALLER_HEADERS, "operator")
    token = mesh.key.token("predict", sub="ann", jti="t1", models="reviews*")
    headers = pretended | {"authorization": f"Bearer {token}"}
    answer = await mesh.http.post(PREDICT, json={"texts": ["a"]}, headers=headers)
    assert answer.is_success, answer.text
    got = {k: v for k, v in mesh.replica.metadata.items() if k in names.CALLER_HEADERS}
    assert got == {
        **{"x-mesh-subject": "ann", "x-mesh-scopes": "predict"},
        **{"x-mesh-models": "reviews*", "x-mesh-token-id": "t1"},
    }
    assert "authorization" not in mesh.replica.metadata
    if mesh.rules.open_predict:
        # Neither words of another scheme reach a service.
        headers = pretended | {"authorization": "Basic YTpi"}
        answer = await mesh.http.post(PREDICT, json={"texts": ["a"]}, headers=headers)
        assert answer.is_success
        assert not mesh.replica.metadata.keys() & {*names.CALLER_HEADERS, "authorization"}


async def test_a_body_without_a_token_is_not_read(mesh: GuardedMesh) -> None:
    for path in ("/v1/models/reviews:train", "/v1/models/a:b:train", "/v1/no/such/path"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        # The body that is announced never comes.
        answer = await answer_to(mesh, f"{head}Content-Length: 1000000\r\n\r\n{{".encode())
        assert answer.status == 401
        assert "a token is needed" in answer.words


async def test_odd_ways_to_a_method_ask_for_its_scope(mesh: GuardedMesh) -> None:
    before = mesh.train.calls
    view = {"authorization": f"Bearer {mesh.key.token('predict', 'view')}"}
    for path in (
        *("/v1/models/a:b:train", "/v1/models/a%3Ab:train", "/v1/models/reviews%3Atrain"),
        *("/v1/models/reviews:train?x=1", "/v1//models/reviews:train", "/v1/./models/a:train"),
        *("/v2/../v1/models/a:train", "/v1/models/a/../b:train", "/v1/models/%2e%2e/a:train"),
    ):
        for headers in (view, {}):
            answer = await mesh.http.post(path, json={}, headers=headers)
            assert answer.status_code in (400, 401, 403, 404, 405), path
    assert mesh.train.calls == before


async def test_the_scheme_may_be_written_in_small_letters(mesh: GuardedMesh) -> None:
    token = mesh.key.token("predict")
    headers = {"authorization": f"bearer {token}"}
    answer = await mesh.http.get("/v1/models/reviews", headers=headers)
    assert answer.is_success, answer.text
    headers = {"authorization": f"bearer {STRANGER.token('predict')}"}
    assert (await mesh.http.get("/v1/models/reviews", headers=headers)).status_code == 401


async def test_balancers_need_no_token(mesh: GuardedMesh) -> None:
    assert (await mesh.http.get("/healthz")).is_success
