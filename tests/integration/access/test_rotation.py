"""New keys and revoked tokens hold within seconds; no call fails of it, and no stream ends."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from control_plane.access.rules import AccessRules
from mesh.v1 import predict_pb2, predict_pb2_grpc, train_pb2, train_pb2_grpc
from tests.integration.access.guarded_mesh import TOKENS, GuardedMesh, guarded_mesh
from tests.real_parts.postgres import execute
from tests.real_parts.tokens import SigningKey, jwks
from tests.real_parts.waiting import until, until_async

# What is promised for new keys and revoked tokens, seconds.
HOLDS_WITHIN_S = 5.0
CLIENTS = 4


@pytest_asyncio.fixture
async def mesh(tmp_path: Path, postgres_url: str) -> AsyncIterator[GuardedMesh]:
    async with guarded_mesh(tmp_path, postgres_url, AccessRules()) as running:
        yield running


class Callers:
    """Clients that predict without a pause, each call with the token that is in use then."""

    def __init__(self, mesh: GuardedMesh, token: str) -> None:
        self.token = token
        self.answered = 0
        self.failures: list[str] = []
        self._stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)

    async def call(self) -> None:
        """Call until cancelled."""
        request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
        while True:
            try:
                await self._stub.Predict(request, metadata=bearer(self.token), timeout=10)
                self.answered += 1
            except aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")

    async def more(self, calls: int = 100) -> None:
        """Wait for further answers."""
        target = self.answered + calls
        await until(lambda: self.answered >= target)


def bearer(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


async def status(mesh: GuardedMesh, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return (await mesh.http.get("/v1/models/reviews", headers=headers)).status_code


def replace_keys(mesh: GuardedMesh, text: str) -> None:
    new = mesh.keys_file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, mesh.keys_file)


async def test_keys_and_tokens_change_under_load(mesh: GuardedMesh) -> None:
    token, leaked = mesh.key.token("predict", "view"), mesh.key.token("predict", jti="leaked")
    second = SigningKey("second")
    callers = Callers(mesh, token)
    tasks = [asyncio.create_task(callers.call()) for _ in range(CLIENTS)]
    watch: Any = train_pb2_grpc.TrainServiceStub(mesh.channel).WatchTraining(
        train_pb2.WatchTrainingRequest(id="1"), metadata=bearer(token)
    )
    assert (await watch.read()).id == "1"
    await callers.more()
    assert await status(mesh, leaked) == 200

    execute(mesh.database_url, TOKENS)
    mesh.revoke("leaked")
    await within(lambda: status(mesh, leaked), 401)
    await callers.more()

    assert await status(mesh, second.token("predict")) == 401
    replace_keys(mesh, jwks(mesh.key, second))
    await within(lambda: status(mesh, second.token("predict")), 200)
    callers.token = second.token("predict")
    await callers.more()
    replace_keys(mesh, jwks(second))
    await within(lambda: status(mesh, token), 401)
    await callers.more()

    # The stream began with a token whose key is gone, and goes on.
    mesh.train.step.set()
    assert (await watch.read()).state == train_pb2.TRAINING_STATE_SUCCEEDED
    assert await watch.read() is grpc.aio.EOF
    for task in tasks:
        task.cancel()
    assert callers.failures == []
    drained = await mesh.envoy.stats("listener_manager.listener_(modified|in_place_updated)$")
    assert set(drained.values()) == {0}
    assert await status(mesh, leaked) == 401


async def within(status_now: Any, wanted: int) -> None:
    began = time.monotonic()

    async def there() -> bool:
        return bool(await status_now() == wanted)

    await until_async(there, timeout_s=HOLDS_WITHIN_S)
    print(f"{wanted} after {time.monotonic() - began:.2f} s")


async def test_a_file_of_keys_that_cannot_be_read_changes_nothing(
    mesh: GuardedMesh, caplog: pytest.LogCaptureFixture
) -> None:
    for broken in ("", "{", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}'):
        caplog.clear()
        replace_keys(mesh, broken)
        await until(lambda: "keys cannot be read" in caplog.text)
        assert await status(mesh, mesh.key.token("predict")) == 200
    mesh.keys_file.unlink()
    await until(lambda: "No such file" in str([r.__dict__ for r in caplog.records]))
    assert await status(mesh, mesh.key.token("predict")) == 200


async def test_as_many_revoked_tokens_as_there_may_be(mesh: GuardedMesh) -> None:
    execute(
        mesh.database_url,
        f"{TOKENS}; INSERT INTO mesh.tokens (id, expires_at, revoked_at) "
        "SELECT 'id' || n, now() + interval '1 hour', now() FROM generate_series(1, 9999) n",
    )
    await within(lambda: status(mesh, mesh.key.token("predict", jti="id9999")), 401)
    assert await status(mesh, mesh.key.token("predict", jti="id1")) == 401
    assert await status(mesh, mesh.key.token("predict", jti="other")) == 200
