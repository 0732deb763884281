"""`mesh bench` as a user runs it, against a server that answers Predict, Reload and GetFleet."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from mesh.v1 import predict_pb2, predict_pb2_grpc, reload_pb2, reload_pb2_grpc
from mesh_cli.errors import BadInput
from mesh_cli.main import app

# Any: the type stubs want every method, and the servicer has only those that the verb calls.
PredictBase: Any = predict_pb2_grpc.PredictServiceServicer
ReloadBase: Any = reload_pb2_grpc.ReloadServiceServicer


class OneReplica(PredictBase, ReloadBase):  # type: ignore[misc]
    """Serves `version` of every model; version 9 cannot be reloaded to."""

    def __init__(self) -> None:
        self.version = "2"
        self.reloads: list[str] = []

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        if request.model == "unknown":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model [unknown]")
        served = predict_pb2.ServedModel(version=self.version, alias="Champion")
        return predict_pb2.PredictResponse(model=served, replica="r1")

    def Reload(
        self, request: reload_pb2.ReloadRequest, context: grpc.ServicerContext
    ) -> reload_pb2.ReloadResponse:
        self.reloads.append(request.version)
        if request.version == "9":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "r1 could not load version 9")
        before, self.version = self.version, request.version
        return reload_pb2.ReloadResponse(from_version=before, to_version=self.version)

    def GetFleet(
        self, request: reload_pb2.GetFleetRequest, context: grpc.ServicerContext
    ) -> reload_pb2.Fleet:
        model = reload_pb2.FleetModel(name="reviews", serving_version=self.version)
        return reload_pb2.Fleet(models=[model])


@pytest.fixture
def replica() -> Iterator[tuple[OneReplica, str]]:
    servicer = OneReplica()
    server = grpc.server(ThreadPoolExecutor(4))
    predict_pb2_grpc.add_PredictServiceServicer_to_server(servicer, server)
    reload_pb2_grpc.add_ReloadServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def _bench(*arguments: str, model: str = "reviews") -> str:
    result = CliRunner().invoke(app, ["bench", model, *arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return f"exit {result.exit_code}\n{result.stdout}"


def test_reloads_are_marked_and_undone(replica: tuple[OneReplica, str]) -> None:
    servicer, address = replica
    printed = _bench(
        "--address", address, "--rate", "100", "--duration", "1s", "--warm-up", "0s",
        "--reload-every", "300ms", "--reload-versions", "1,9,2", "--json",
    )  # fmt: skip
    status, _, document = printed.partition("\n")
    summary = json.loads(document)
    assert status == "exit 0"
    assert (summary["requests"], summary["failed"]) == (100, 0)
    assert servicer.reloads == ["1", "9", "2", "2"]
    assert [event["failed"] for event in summary["events"]] == [False, True, False]
    assert summary["events"][0]["detail"] == "2 → 1"
    assert summary["events"][0]["beginS"] >= 0.3
    assert {row["version"] for row in summary["served"]} == {"1", "2"}
    assert summary["duringEvents"]["insideMs"]["p99"] > 0


def test_tables_are_printed_and_a_plot_drawn(
    replica: tuple[OneReplica, str], tmp_path: Path
) -> None:
    plot = tmp_path / "plot.png"
    printed = _bench(
        "--address", replica[1], "--clients", "2", "--duration", "300ms", "--warm-up", "0s",
        "--plot", str(plot),
    )  # fmt: skip
    for part in ("exit 0", "closed loop, 2 clients, grpc", "p99.9", "Champion", "of CPU a request"):
        assert part in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_load_without_a_good_answer_is_a_failure(replica: tuple[OneReplica, str]) -> None:
    printed = _bench(
        "--address", replica[1], "--rate", "50", "--duration", "200ms", "--warm-up", "0s",
        model="unknown",
    )  # fmt: skip
    assert "exit 1" in printed
    assert "NOT_FOUND" in printed
    assert "no model [unknown]" in printed


def test_a_search_without_a_rate_that_holds_fails(
    replica: tuple[OneReplica, str],
) -> None:
    """No rate holds an impossible target, and every step is printed."""
    printed = _bench(
        "--address", replica[1], "--find-rate", "--rate", "1.5", "--p99", "0.001ms", "--duration",
        "1s", "--warm-up", "0s", "--json",
    )  # fmt: skip
    status, _, document = printed.partition("\n")
    summary = json.loads(document)
    assert status == "exit 1"
    assert summary["rate"] is None
    assert [step["rate"] for step in summary["steps"]] == [1.5, pytest.approx(1.5 / 1.4), 1.0]
    assert not any(step["holds"] for step in summary["steps"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "1", "--clients", "1"), "one of them"),
        (("--find-rate", "--clients", "1"), "goes without"),
        (("--reload-versions", "1,2"), "needs --reload-at"),
        (("--duration", "20"), "20s"),
        (("--rate", "0"), "rate is 0"),
        (("--clients", "0"), "clients is 0"),
    ],
)
def test_wrong_options_are_bad_input(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _bench("--address", "127.0.0.1:1", *arguments)
