"""Envoy's access log."""

import uuid

import pytest

from tests.integration.envoy.door_checks import PREDICT, predict_request, predict_stub
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_access_log_is_json_without_queries(mesh: ToyMesh) -> None:
    request_id = str(uuid.uuid4())
    headers = {"x-request-id": request_id, "user-agent": "log-test"}
    await mesh.http.post(PREDICT, params={"token": "secret"}, json={}, headers=headers)
    entry = (await mesh.envoy.logged([request_id]))[request_id]
    assert entry["path"] == PREDICT
    assert (entry["method"], entry["status"], entry["user_agent"]) == ("POST", 400, "log-test")
    assert isinstance(entry["duration_ms"], int)
    assert "secret" not in mesh.envoy.access_log.read_text()
    request_id = str(uuid.uuid4())
    metadata = (("x-request-id", request_id),)
    await predict_stub(mesh).Predict(predict_request(), timeout=5, metadata=metadata)
    entry = (await mesh.envoy.logged([request_id]))[request_id]
    assert entry["grpc_status"] == "OK"
    assert entry["path"] == "/mesh.v1.PredictService/Predict"
    assert entry["upstream"] in mesh.upstreams
