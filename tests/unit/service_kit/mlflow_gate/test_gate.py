"""The gate around an application that only notes what reaches it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh_cli.tokens.own_tokens import TRAINING_FILE, OwnTokens
from service_kit.mlflow_gate.browsers import Browsers
from service_kit.mlflow_gate.gate import Gate, Message, Receive, Send
from service_kit.mlflow_gate.locations import Places
from service_kit.mlflow_gate.routes import ARTIFACTS
from service_kit.mlflow_gate.tokens import MOST_REMEMBERED, BadToken, TokenCheck


class Behind:
    """What MLflow would get."""

    def __init__(self) -> None:
        self.scopes: list[Message] = []
        self.receive: Receive | None = None
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.receive = receive
        if scope["type"] == "http":
            self.bodies.append((await receive()).get("body", b""))
            await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def secrets(tmp_path: Path) -> OwnTokens:
    tokens = OwnTokens(tmp_path)
    tokens.make()
    return tokens


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def gate(secrets: OwnTokens, behind: Behind) -> Gate:
    check = TokenCheck(secrets.keys.public_file, None)
    return Gate(behind, check, Places(""), Browsers((), open_reads=True), open_reads=True)


async def call(
    gate: Gate, method: str, path: str, token: str = "", *parts: bytes, **headers: str
) -> int:
    sent: list[Message] = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
    ] or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    named = {"host": "localhost", **headers}
    if token:
        named["authorization"] = f"Bearer {token}"
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    await gate(scope, receive, send)
    return int(sent[0]["status"])


async def test_the_stages_of_the_server_reach_mlflow_and_web_sockets_do_not(
    gate: Gate, behind: Behind
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {}

    await gate({"type": "lifespan"}, receive, send)
    assert [scope["type"] for scope in behind.scopes] == ["lifespan"]
    await gate({"type": "websocket", "path": "/"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert len(behind.scopes) == 1


async def test_tokens_and_origins_stay_in_the_gate(
    gate: Gate, behind: Behind, secrets: OwnTokens
) -> None:
    path = "/api/2.0/mlflow/runs/search"
    assert await call(gate, "POST", path, secrets.operator, origin="http://localhost") == 200
    assert [name for name, _ in behind.scopes[0]["headers"]] == [b"host"]


async def test_the_body_of_an_upload_is_not_gathered(
    gate: Gate, behind: Behind, secrets: OwnTokens
) -> None:
    token = (secrets.keys.public_file.parent / TRAINING_FILE).read_text()
    assert await call(gate, "PUT", f"{ARTIFACTS}/1/a", token, b"first", b"second") == 200
    assert behind.bodies == [b"first"]
    assert behind.receive
    assert (await behind.receive())["body"] == b"second"


async def test_mlflow_gets_the_body_as_the_gate_has_understood_it(
    gate: Gate, behind: Behind, secrets: OwnTokens
) -> None:
    body = b'"{\\"name\\": \\"a\\"}"'
    path = "/api/2.0/mlflow/experiments/create"
    assert await call(gate, "POST", path, secrets.operator, body[:5], body[5:]) == 200
    assert json.loads(behind.bodies[0]) == {"name": "a"}
    length = dict(behind.scopes[0]["headers"])[b"content-length"]
    assert int(length) == len(behind.bodies[0])


async def test_a_header_that_comes_twice_is_refused(gate: Gate, secrets: OwnTokens) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/2.0/mlflow/registered-models/create",
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {secrets.operator}".encode()),
            (b"authorization", b"Bearer other"),
        ],
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await gate(scope, receive, send)
    assert sent[0]["status"] == 401


def test_without_a_file_of_keys_no_token_is_good(secrets: OwnTokens, tmp_path: Path) -> None:
    with pytest.raises(BadToken, match="no key of this mesh"):
        TokenCheck(tmp_path / "missing.json", None).holder(secrets.operator)


def test_half_a_file_of_keys_or_of_ids_changes_nothing(secrets: OwnTokens, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.json"
    check = TokenCheck(secrets.keys.public_file, revoked)
    holder = check.holder(secrets.operator)
    revoked.write_text(json.dumps([holder.token_id]))
    for text in (revoked.read_text(), '["half', "7"):
        revoked.write_text(text)
        with pytest.raises(BadToken, match="revoked"):
            check.holder(secrets.operator)
    text = secrets.keys.public_file.read_text()
    revoked.write_text("[]")
    secrets.keys.public_file.write_text(text[:50])
    assert check.holder(secrets.operator) == holder


def test_the_memory_of_good_tokens_is_bounded(secrets: OwnTokens) -> None:
    check = TokenCheck(secrets.keys.public_file, None)
    good = check.holder(secrets.operator)
    check._known = {str(number): good for number in range(MOST_REMEMBERED)}
    assert check.holder(secrets.operator) == good
    assert len(check._known) == 1


def test_a_token_ends_also_while_it_is_remembered(secrets: OwnTokens) -> None:
    now = [0.0]
    check = TokenCheck(secrets.keys.public_file, None, lambda: now[0])
    end = check.holder(secrets.operator).ends
    now[0] = end
    with pytest.raises(BadToken, match="expired"):
        check.holder(secrets.operator)
