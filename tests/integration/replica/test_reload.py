"""Versions are prepared, activated and aborted while the replica answers."""

import asyncio
from itertools import combinations
from pathlib import Path

import grpc
import pytest

from mesh.v1 import predict_pb2 as pb
from mesh.v1 import reload_pb2, replica_pb2
from tests.integration.replica.rig import Client, Replica, broken, error_info, failure
from tests.twins.replica import FakeRegistry

SERVING_STATE = reload_pb2.MODEL_STATE_SERVING


async def test_prepare_is_shared_and_idempotent(client: Client, registry: FakeRegistry) -> None:
    registry.downloads.clear()
    request = replica_pb2.PrepareRequest(model="reviews", version="2")
    await asyncio.gather(*(client.replica.Prepare(request) for _ in range(4)))
    again = await client.replica.Prepare(request)
    assert registry.downloads == [("reviews", "2")]
    assert again.serving_version == "1"
    activate = replica_pb2.ActivateRequest(model="reviews", version="2")
    first = await client.replica.Activate(activate)
    second = await client.replica.Activate(activate)
    assert (first.from_version, second.from_version) == ("1", "2")


async def test_state_tells_every_slot(client: Client) -> None:
    before = (await client.state()).slots[0]
    assert not before.HasField("first_answer_at")
    await client.ask("a")
    await client.replica.Prepare(replica_pb2.PrepareRequest(model="reviews", version="2"))
    state = await client.state()
    assert state.replica == "replica-1"
    assert state.device.startswith("cpu (")
    assert [(slot.version, slot.state) for slot in state.slots] == [
        ("1", SERVING_STATE),
        ("2", reload_pb2.MODEL_STATE_READY),
    ]
    assert state.slots[0].HasField("first_answer_at")
    await client.replica.Abort(replica_pb2.AbortRequest(model="reviews", version="2"))
    assert len((await client.state()).slots) == 1
    error = await failure(
        client.replica.Activate(replica_pb2.ActivateRequest(model="reviews", version="2"))
    )
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ("no golden set", "golden set"),
        ("other answers", "golden set"),
        ("three labels", "warm-up"),
        ("no weights", "load"),
        ("not there", "download"),
    ],
)
async def test_version_that_cannot_be_prepared_names_the_step_and_changes_nothing(
    client: Client,
    registry: FakeRegistry,
    tmp_path: Path,
    fault: str,
    step: str,
) -> None:
    if fault != "not there":
        registry.add("reviews", "9", broken(tmp_path, fault))
    request = replica_pb2.PrepareRequest(model="reviews", version="9")
    error = await failure(client.replica.Prepare(request))
    assert error.code() is grpc.StatusCode.ABORTED
    info = error_info(error)
    assert (info.reason, info.metadata["step"]) == ("PREPARE_FAILED", step)
    assert (await client.ask("a")).model.version == "1"
    failed = (await client.state()).slots[1]
    assert (failed.state, failed.step) == (reload_pb2.MODEL_STATE_FAILED, step)


async def test_prepare_while_mlflow_is_away_can_be_tried_again(
    client: Client, registry: FakeRegistry
) -> None:
    registry.away = True
    request = replica_pb2.PrepareRequest(model="reviews", version="2")
    error = await failure(client.replica.Prepare(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(error).metadata["step"] == "download"
    registry.away = False
    await client.replica.Prepare(request)


TEXTS = ("a great film", "awful", "the film was good " * 9)


def scores(response: pb.PredictResponse) -> list[float]:
    """Probability of the label "good" for each text."""
    return [
        next(item.score for item in prediction.scores if item.label == "good")
        for prediction in response.predictions
    ]


async def test_reload_under_traffic_fails_nothing_and_never_mixes_versions(client: Client) -> None:
    responses: list[pb.PredictResponse] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            responses.append(await client.ask(*TEXTS, all_scores=True))

    alone = {"1": scores(await client.ask(*TEXTS, all_scores=True))}
    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for version in ("2", "3"):
        swap = await client.reload(version)
        assert swap.from_version == str(int(version) - 1)
        assert 0 <= swap.drained_requests <= 8
        response = await client.ask(*TEXTS, all_scores=True)
        assert response.model.version == version
        alone[version] = scores(response)
    stop.set()
    await asyncio.gather(*clients)
    assert {response.model.version for response in responses} == set(alone)
    for response in responses:
        assert scores(response) == pytest.approx(alone[response.model.version], abs=0.03)
    # The versions score each text so differently that no score of one passes for another's.
    for of_text in zip(*alone.values(), strict=True):
        assert all(abs(one - other) > 0.06 for one, other in combinations(of_text, 2))


async def test_old_versions_leave_the_cache_but_none_in_use(
    client: Client, replica: Replica
) -> None:
    challenger = reload_pb2.MODEL_ROLE_CHALLENGER
    await client.replica.Prepare(
        replica_pb2.PrepareRequest(model="reviews", version="2", role=challenger)
    )
    await client.replica.Activate(
        replica_pb2.ActivateRequest(model="reviews", version="2", role=challenger)
    )
    for version in ("3", "4", "5"):
        await client.reload(version)
    folder = replica.settings.state_dir / "models" / "reviews"
    kept = sorted(path.name.partition("-")[0] for path in folder.iterdir())
    assert kept == ["2", "3", "4", "5"]
