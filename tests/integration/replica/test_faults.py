"""Faults of the engine, of single versions, and of the registry, met by a real replica."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from inference_svc.serving.trouble import EXIT_CODE
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import reload_pb2, replica_pb2
from service_kit.model_registry.records import CHAMPION, SERVING
from tests.integration.replica.breakable import Breaks
from tests.integration.replica.rig import Client, Replica, broken, failure
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.twins.replica import FakeRegistry, until, write_model

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def breaks(tmp_path: Path) -> Breaks:
    folder = tmp_path / "breaks"
    folder.mkdir()
    return Breaks(folder)


@pytest.fixture
def replica(tmp_path: Path, registry: FakeRegistry, breaks: Breaks) -> Replica:
    registry.add("films", "1", registry.folders[("reviews", "2")], CHAMPION, SERVING)
    return Replica(tmp_path / "state", registry, breaks)


async def health(client: Client) -> int:
    answer = await client.health.Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def test_a_model_that_fails_is_withdrawn_and_comes_back(
    client: Client, breaks: Breaks
) -> None:
    await client.ask("a")
    breaks.set("reviews")
    for _ in range(5):
        assert (await failure(client.ask("a"))).code() is UNAVAILABLE
        assert (await client.ask("a", model="films")).model.name == "films"
    state = await client.state()
    assert {slot.model: slot.withdrawn for slot in state.slots} == {"films": False, "reviews": True}
    assert "uncorrectable ECC error" in state.slots[1].detail
    assert not state.trouble
    get = await failure(client.predict.GetModel(pb.GetModelRequest(model="reviews")))
    assert get.code() is UNAVAILABLE
    breaks.set("reviews", broken=False)

    async def is_back() -> bool:
        return not (await client.state()).slots[1].withdrawn

    await until(is_back)
    assert (await client.ask("a")).model.version == "1"


async def test_a_stream_goes_on_for_the_other_models(client: Client, breaks: Breaks) -> None:
    breaks.set("reviews")
    requests = [
        pb.PredictRequest(model=model, texts=["a"], id=f"{model}{number}")
        for number in range(10)
        for model in ("films", "reviews")
    ]
    answers = {answer.id: answer async for answer in client.predict.PredictStream(iter(requests))}
    assert len(answers) == 20
    for name, answer in answers.items():
        assert answer.HasField("response") == name.startswith("films")
        assert answer.error.code in (0, UNAVAILABLE.value[0])


async def test_a_lost_device_takes_the_replica_out_and_ends_it(
    replica: Replica, client: Client, breaks: Breaks
) -> None:
    stream = client.predict.PredictStream()
    await stream.write(pb.PredictRequest(model="films", texts=["a"], id="1"))
    await stream.read()
    breaks.set("device")
    calls = [client.ask("a", model=model) for model in ("reviews", "films") for _ in range(10)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    for error in errors:
        assert isinstance(error, aio.AioRpcError)
        assert error.code() is UNAVAILABLE

    async def is_out() -> bool:
        return await health(client) == NOT_SERVING

    await until(is_out)
    assert (await client.state()).trouble
    error = await failure(client.ask("a", model="films"))
    assert error.code() is UNAVAILABLE
    assert "this replica cannot compute" in (error.details() or "")
    assert (await failure(stream.read())).code() is UNAVAILABLE

    async def has_ended() -> bool:
        return replica.exit_codes == [EXIT_CODE]

    await until(has_ended)


async def test_a_model_made_anew_answers_with_its_own_weights(
    replica: Replica, registry: FakeRegistry, client: Client, tmp_path: Path
) -> None:
    assert (await client.ask("a great film")).predictions[0].label in ("bad", "good")
    registry.remove("reviews")
    files = write_model(tmp_path / "anew", seed=7, labels=("new_bad", "new_good"), with_graph=True)
    registry.add("reviews", "1", files, CHAMPION, SERVING)
    swap = await client.reload("1")
    assert swap.from_version == "1"
    assert (await client.ask("a great film")).predictions[0].label in ("new_bad", "new_good")
    assert (await client.state()).slots[1].source == str(files)
    registry.away = True
    assert replica.server is not None
    async with replica.running() as restarted:
        answer = await restarted.ask("a great film")
        assert answer.predictions[0].label in ("new_bad", "new_good")


async def test_a_removed_model_is_unloaded(
    replica: Replica, registry: FakeRegistry, client: Client
) -> None:
    registry.remove("reviews")
    await client.replica.Abort(replica_pb2.AbortRequest(model="reviews", version="1", removed=True))
    error = await failure(client.ask("a"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert [slot.model for slot in (await client.state()).slots] == ["films"]
    folder = replica.settings.state_dir / "models"
    assert [path.name for path in folder.iterdir()] == ["films"]


async def test_one_bad_version_leaves_the_replica_ready_for_the_others(
    replica: Replica, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.add("films", "9", broken(tmp_path, "other answers"), SERVING)
    async with replica.running() as client:
        assert await health(client) == health_pb2.HealthCheckResponse.SERVING
        assert (await client.ask("a")).model.version == "1"
        films = (await client.state()).slots[0]
        failed = reload_pb2.MODEL_STATE_FAILED
        assert (films.model, films.version, films.state) == ("films", "9", failed)
        assert films.step == "golden set"
        assert films.detail.startswith("golden set: 'a great film' ")
        error = await failure(client.ask("a", model="films"))
        assert error.code() is UNAVAILABLE
        assert error.details() == (
            "version 9 of films cannot be served here: the step 'golden set' failed; this replica "
            "tries again by itself"
        )


@asynccontextmanager
async def process(
    folder: Path, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Client]]:
    """A replica in a process of its own; see breakable.py."""
    port = free_port()
    environment = {
        "INFERENCE_PORT": str(port),
        "INFERENCE_STATE_DIR": str(folder / "state"),
        "INFERENCE_DRAIN_SECONDS": "0",
        **settings,
    }
    started = await start_module(
        "tests.integration.replica.breakable",
        str(folder),
        environment=environment,
        log=folder / "log",
    )
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            client = Client(channel)

            async def is_healthy() -> bool:
                assert started.returncode is None
                try:
                    return await health(client) == health_pb2.HealthCheckResponse.SERVING
                except aio.AioRpcError:
                    return False

            await until(is_healthy)
            yield started, client
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGKILL)
            await started.wait()


@pytest.mark.parametrize(("fault", "why"), [("device", "engine"), ("hang", "a batch has been")])
async def test_the_process_of_a_replica_that_cannot_compute_ends(
    models: dict[str, Path], tmp_path: Path, fault: str, why: str
) -> None:
    os.symlink(models["1"], tmp_path / "files")
    breaks = Breaks(tmp_path)
    async with process(tmp_path, INFERENCE_BATCH_TIMEOUT_S="5") as (started, client):
        await client.ask("a")
        breaks.set(fault)
        error = await failure(client.ask("a", model="films"))
        assert error.code() is UNAVAILABLE

        async def says_why() -> bool:
            return why in (await client.state()).trouble and await health(client) == NOT_SERVING

        # The caller has its answer a moment before the replica has checked its engine.
        await until(says_why)
        assert await asyncio.wait_for(started.wait(), 30) == EXIT_CODE
    breaks.set(fault, broken=False)
    async with process(tmp_path) as (_, client):
        assert (await client.ask("a")).model.version == "1"
