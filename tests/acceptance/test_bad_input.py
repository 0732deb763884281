"""Bad input gets a clear answer, over gRPC, over JSON and from the CLI."""

import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mesh import errors
from mesh.client import MeshClient
from tests.whole_mesh.running_mesh import Mesh, new_mesh

TOO_LONG = "x" * 32_769


def _post(mesh: Mesh, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(
        f"{mesh.url}{path}",
        content=content,
        headers={"content-type": "application/json", **mesh.headers},
        timeout=30,
    )
    assert response.headers["content-type"].startswith("application/json"), response.text
    document = response.json()
    assert {"code", "message", "details"} <= document.keys()
    assert "Traceback" not in response.text
    return response.status_code, document


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"texts": []}, "texts"),
        ({}, "texts"),
        ({"texts": ["ok"] * 1025}, "1,024"),
        ({"texts": ["ok", ""]}, "texts[1]"),
        ({"texts": [" \n\t"]}, "texts[0]"),
        ({"texts": [TOO_LONG]}, "32,768"),
        ({"texts": [7]}, "texts"),
        ({"texts": ["ok"], "allScores": "maybe"}, "all"),
        (b"this is not JSON", "must be an object"),
        (b'{"texts": ["\xff\xfe"]}', "UTF-8"),
    ],
)
def test_predict_over_json_names_the_fault(mesh: Mesh, reviews: str, body: Any, words: str) -> None:
    status, document = _post(mesh, f"/v1/models/{reviews}:predict", body)
    assert status == 400, document
    assert document["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert words in document["message"]


def test_an_unknown_query_parameter_is_named(mesh: Mesh, reviews: str) -> None:
    status, document = _post(mesh, f"/v1/models/{reviews}:predict?colour=red", {"texts": ["ok"]})
    assert status == 400
    assert "colour" in document["message"]


def test_a_body_over_the_limit_is_refused(mesh: Mesh, reviews: str) -> None:
    body = json.dumps({"texts": ["x" * 9_000_000]}).encode()
    status, _ = _post(mesh, f"/v1/models/{reviews}:predict", body)
    assert status == 413


def test_an_unknown_path_is_not_found(mesh: Mesh) -> None:
    assert _post(mesh, "/v3/nothing/here", {})[0] == 404


def test_an_unknown_path_of_the_open_inference_protocol_gets_its_kind_of_error(mesh: Mesh) -> None:
    response = httpx.post(f"{mesh.url}/v2/nothing/here", json={}, timeout=30)
    assert response.status_code == 404
    assert set(response.json()) == {"error"}


def test_an_unknown_model_is_named(mesh: Mesh, reviews: str) -> None:
    status, document = _post(mesh, "/v1/models/nobody:predict", {"texts": ["ok"]})
    assert status == 404
    assert "nobody" in document["message"]
    with MeshClient(mesh.address) as client, pytest.raises(errors.NotFound, match="nobody"):
        client.predict("nobody", "ok")
    with MeshClient(mesh.address) as client, pytest.raises(errors.NotFound, match="import"):
        client.train("nobody")


def test_a_bad_model_name_is_an_error_of_field_model(mesh: Mesh) -> None:
    with MeshClient(mesh.address) as client:
        for name in ("Reviews", "1st", "a" * 41, ""):
            with pytest.raises(errors.InvalidArgument) as caught:
                client.predict(name, "ok")
            assert "model" in caught.value.fields


@pytest.mark.parametrize(
    ("texts", "field"),
    [([], "texts"), (["ok"] * 1025, "texts"), (["ok", " "], "texts[1]"), ([TOO_LONG], "texts[0]")],
)
def test_predict_over_grpc_names_the_field(
    mesh: Mesh, reviews: str, texts: list[str], field: str
) -> None:
    with MeshClient(mesh.address) as client, pytest.raises(errors.InvalidArgument) as caught:
        client.predict(reviews, texts)
    assert field in caught.value.fields


def test_invalid_utf8_and_large_messages_over_grpc_are_invalid_arguments(mesh: Mesh) -> None:
    with grpc.insecure_channel(
        mesh.address, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        predict: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/mesh.v1.PredictService/Predict"
        )
        for message in (b"\x0a\x02\xff\xfe", b"\x12\x80\x80\x80\x05" + b"a" * 10_485_760):
            with pytest.raises(grpc.RpcError) as caught:
                predict(message, timeout=30)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_long_text_is_truncated_and_the_answer_says_so(mesh: Mesh, reviews: str) -> None:
    answer = mesh.json("predict", reviews, "word " * 5_000, "short")
    assert [item["truncated"] for item in answer["predictions"]] == [True, False]


def test_a_model_without_a_version_says_to_train_one(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(20)))
    mesh.run("import", "untrained", path, "--no-train")
    status, document = _post(mesh, "/v1/models/untrained:predict", {"texts": ["ok"]})
    assert status == 400, document
    assert document["code"] == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert "train one first" in document["message"]
    assert mesh.json("batches", "untrained") == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"review,label\nx,a\n", "line 1"),
        (b"text,label\nx,a\ny\x00,b\n", "line 3"),
        (b'text,label\nx,a\n"y,b\n', "line 3"),
        (b"", "empty"),
    ],
)
def test_the_bad_line_of_a_csv_is_named_and_no_table_is_left(
    mesh: Mesh, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    result = mesh.run("import", "half_made", path, check=False)
    assert result.returncode == 2
    assert words in result.stderr
    with MeshClient(mesh.address) as client, pytest.raises(errors.NotFound):
        client.get_dataset("half_made")


def test_the_line_of_an_unknown_label_in_the_test_split_is_named(
    mesh: Mesh, tmp_path: Path
) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\nx,a\ny,b\n")
    test.write_text("text,label\nz,a\nw,c\n")
    result = mesh.run("import", "half_made", train, "--test", test, check=False)
    assert result.returncode == 2
    assert "test.csv, line 3" in result.stderr


def test_a_second_up_says_that_it_is_up(mesh: Mesh) -> None:
    result = mesh.run("up", "--detach", check=False)
    assert result.returncode == 1
    assert "already up" in result.stderr


def test_a_port_in_use_is_named(mesh: Mesh, tmp_path: Path) -> None:
    other = new_mesh(tmp_path / "other")
    other.environment["MESH_PORT"] = mesh.environment["MESH_PORT"]
    result = other.run("up", "--detach", check=False)
    assert result.returncode == 1
    assert mesh.environment["MESH_PORT"] in result.stderr
    assert "envoy" in result.stderr


def test_a_home_that_is_not_writable_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = new_mesh(tmp_path / "file" / "home").run("up", "--detach", check=False)
    assert result.returncode == 1
    assert "MESH_HOME" in result.stderr


def test_verbs_without_a_mesh_say_how_to_start_one(tmp_path: Path) -> None:
    result = new_mesh(tmp_path).run("predict", "reviews", "hello", check=False)
    assert result.returncode == 3
    assert "mesh up" in result.stderr
