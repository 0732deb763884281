"""gRPC over HTTP/1.1, as no library sends it: it is answered, and no other replica is tried."""

import httpx
import pytest
from grpc import StatusCode

from mesh.v1 import predict_pb2
from tests.integration.abuse.honest_clients import honest_clients
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRPC = {"content-type": "application/grpc"}
MESSAGE = predict_pb2.PredictRequest(model="reviews", texts=["a"]).SerializeToString()
BODY = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
UNKNOWN = StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/mesh.v1.PredictService/Predict", None),
        ("/mesh.v1.PredictService/PredictStream", None),
        ("/mesh.v1.PredictService/GetModel", None),
        ("/mesh.v1.PredictService/Nothing", UNKNOWN),
        ("/mesh.v1.DataService/Nothing", UNKNOWN),
        ("/mesh.v1.TrainService/Nothing", UNKNOWN),
        ("/mesh.v1.ReloadService/Nothing", UNKNOWN),
    ],
)
@pytest.mark.parametrize("te", [None, "trailers", "gzip"])
async def test_one_attempt_answers(
    mesh: ToyMesh, path: str, status: int | None, te: str | None
) -> None:
    headers = GRPC if te is None else {**GRPC, "te": te}
    async with honest_clients(mesh.envoy):
        answers = [await mesh.http.post(path, content=BODY, headers=headers) for _ in range(5)]
    logged = await mesh.envoy.logged([answer.headers["x-request-id"] for answer in answers])
    assert {line["attempts"] for line in logged.values()} == {1}
    for answer in answers:
        assert answer.status_code == httpx.codes.OK
        assert answer.headers.get("grpc-status") == (None if status is None else str(status))
    failing = await mesh.envoy.stats("outlier_detection.ejections_active")
    assert not any(failing.values())
