"""ListModels by pages, through Envoy: over gRPC, over JSON, and by the client."""

import grpc
import pytest
from grpc import aio

from mesh.client import AsyncMeshClient
from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def served(mesh: OneReplica) -> list[tuple[str, str]]:
    """Every model with its role, in one page."""
    models = (await mesh.http.get("/v1/models")).json()["models"]
    assert len(models) > 2
    return [(model["name"], model["alias"]) for model in models]


async def test_a_list_comes_page_by_page_over_grpc(mesh: OneReplica) -> None:
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub = predict_pb2_grpc.PredictServiceStub(channel)
        everything = await served(mesh)
        found, token = [], ""
        for left in reversed(range(len(everything))):
            request = predict_pb2.ListModelsRequest(page_size=1, page_token=token)
            page = await stub.ListModels(request, timeout=20)
            found += [(model.name, model.alias) for model in page.models]
            token = page.next_page_token
            assert bool(token) == bool(left)
        assert found == everything
        whole = await stub.ListModels(predict_pb2.ListModelsRequest(), timeout=20)
        assert (len(whole.models), whole.next_page_token) == (len(everything), "")


async def test_a_list_comes_page_by_page_over_json(mesh: OneReplica) -> None:
    everything = await served(mesh)
    first = (await mesh.http.get("/v1/models", params={"pageSize": 2})).json()
    assert [(model["name"], model["alias"]) for model in first["models"]] == everything[:2]
    query = {"pageSize": 1000, "pageToken": first["nextPageToken"]}
    last = (await mesh.http.get("/v1/models", params=query)).json()
    assert [(model["name"], model["alias"]) for model in last["models"]] == everything[2:]
    assert last["nextPageToken"] == ""


async def test_the_client_reads_all_pages(
    mesh: OneReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh._shared.calls.PAGE_SIZE", 1)
    async with AsyncMeshClient(mesh.envoy.address) as client:
        models = await client.list_models()
    assert [(model.name, model.alias) for model in models] == await served(mesh)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "reviews"}, "page_token"),
        ({"page_token": "1"}, "page_token"),
        ({"page_token": "x" * 5_000}, "page_token"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    mesh: OneReplica, fields: dict[str, object], field: str
) -> None:
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub = predict_pb2_grpc.PredictServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as failed:
            await stub.ListModels(predict_pb2.ListModelsRequest(**fields), timeout=20)  # type: ignore[arg-type]
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (failed.value.details() or "").startswith(f"{field}: ")
