"""What real services tell a caller of other models, and what the audit says of each call."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from grpc import aio

from control_plane.access.rules import AccessRules, Scope
from mesh.v1 import data_pb2, data_pb2_grpc, train_pb2, train_pb2_grpc
from tests.integration.access.guarded_mesh import GuardedMesh, guarded_mesh
from tests.integration.access.real_services import RealServices, real_services
from tests.real_parts.postgres import new_database
from tests.real_parts.trigger_service import examples, query
from tests.real_parts.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALL = tuple(Scope)
BATCHES = 12


class Rig:
    """The mesh, its services and tokens."""

    def __init__(self, mesh: GuardedMesh, services: RealServices) -> None:
        self.mesh = mesh
        self.services = services
        self.train: Any = train_pb2_grpc.TrainServiceStub(mesh.channel)
        self.data: Any = data_pb2_grpc.DataServiceStub(mesh.channel)

    def token(self, models: str = "films*", **claims: Any) -> str:
        return self.mesh.key.token(*ALL, models=models, **claims)

    def as_shop(self, models: str = "films*", **claims: Any) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self.token(models, **claims)}"),)

    async def json(self, verb: str, path: str, models: str = "films*") -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token(models)}"}
        body: dict[str, str] | None = {} if verb == "POST" else None
        return await self.mesh.http.request(verb, path, json=body, headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("other-models")
    with new_database(postgres_server) as url:
        async with (
            real_services(folder, url) as services,
            guarded_mesh(folder, url, AccessRules(), services.training, services.trigger) as mesh,
        ):
            rig = Rig(mesh, services)
            for model in ("reviews", "films", "films_2"):
                header = data_pb2.ImportHeader(model=model, no_train=True)
                message = data_pb2.ImportExamplesRequest(header=header, examples=examples(4))
                await rig.data.ImportExamples(iter([message]), metadata=rig.as_shop("*"))
                query(
                    url,
                    "INSERT INTO mesh.batches (id, model, number, rows, reason, state, sealed_at)"
                    " SELECT %s || '__' || n, %s, n, 1, 'QUIET', 'SUCCEEDED',"
                    " timestamptz '2026-01-01' + make_interval(mins => n / 2)"
                    " FROM generate_series(1, %s) AS n",
                    *(model, model, BATCHES),
                )
                query(
                    url,
                    "INSERT INTO mesh.troubles (model, kind, message) VALUES (%s, 'table', 'odd')",
                    model,
                )
            services.add_ended_job("job1", "reviews")
            services.add_ended_job("job2", "films")
            yield rig


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


@pytest.mark.parametrize("job", ["job1", "request-of-job1"])
async def test_a_job_of_another_model_is_as_one_that_there_is_not(rig: Rig, job: str) -> None:
    metadata = rig.as_shop()
    for name in ("GetTraining", "WatchTraining", "CancelTraining"):
        found = {}
        for any_id in (job, "nothing"):
            request = getattr(train_pb2, f"{name}Request")(id=any_id)
            call = getattr(rig.train, name)(request, metadata=metadata)
            code, words = await failure(call.read() if name == "WatchTraining" else call)
            found[any_id] = code, words.replace(any_id, "ID")
        assert found[job] == found["nothing"], name
        assert found[job][0] is grpc.StatusCode.NOT_FOUND
    for verb, ending in (("GET", ""), ("GET", ":watch"), ("POST", ":cancel")):
        answers = [
            await rig.json(verb, f"/v1/trainings/{each}{ending}") for each in (job, "nothing")
        ]
        there, nothing = [(a.status_code, a.text.replace(job, "nothing")) for a in answers]
        assert there == nothing
        assert there[0] == 404
    own = train_pb2.GetTrainingRequest(id="job2")
    assert (await rig.train.GetTraining(own, metadata=metadata)).model == "films"


async def test_a_request_id_of_another_model_does_not_tell_which(rig: Rig) -> None:
    train = train_pb2.TrainRequest(model="films", request_id="request-of-job1")
    code, words = await failure(rig.train.Train(train, metadata=rig.as_shop()))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "reviews" not in words
    trigger = data_pb2.AddExamplesRequest(model="reviews", request_id="taken", examples=examples(1))
    await rig.data.AddExamples(trigger, metadata=rig.as_shop("*"))
    trigger = data_pb2.AddExamplesRequest(model="films", request_id="taken", examples=examples(1))
    code, words = await failure(rig.data.AddExamples(trigger, metadata=rig.as_shop()))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "reviews" not in words


async def test_a_batch_of_another_model_is_as_one_that_there_is_not(rig: Rig) -> None:
    found = [
        await failure(
            rig.data.Retry(
                data_pb2.RetryRequest(model="films", batch_id=batch), metadata=rig.as_shop()
            )
        )
        for batch in ("reviews__3", "reviews__99")
    ]
    assert found[0][0] is found[1][0] is grpc.StatusCode.NOT_FOUND
    assert found[0][1].replace("__3", "__99") == found[1][1]


@pytest.mark.parametrize(
    ("models", "seen"),
    [
        ("films*", {"films", "films_2"}),
        ("films", {"films"}),
        ("film_2 f%", set()),
        ("reviews films_2", {"reviews", "films_2"}),
        ("*", {"reviews", "films", "films_2"}),
    ],
)
async def test_pages_of_batches_hold_a_callers_own_only_and_are_full(
    rig: Rig, models: str, seen: set[str]
) -> None:
    token, sizes, found = "", [], set()
    while True:
        request = data_pb2.ListBatchesRequest(page_size=5, page_token=token)
        page = await rig.data.ListBatches(request, metadata=rig.as_shop(models))
        found |= {batch.model for batch in page.batches}
        assert {trouble.model for trouble in page.troubles} == seen
        sizes.append(len(page.batches))
        token = page.next_page_token
        if not token:
            break
    assert found == seen
    assert sum(sizes) == len(seen) * BATCHES
    assert set(sizes[:-1]) <= {5}


async def test_each_call_that_changes_something_is_in_the_audit_with_who_and_how_it_ended(
    rig: Rig,
) -> None:
    def new() -> list[tuple[str, ...]]:
        return [entry for entry in rig.services.audit() if entry[1] == "audit-test"]

    def as_ann(models: str) -> tuple[tuple[str, str]]:
        return rig.as_shop(models, sub="ann", jti="audit-test")

    add = data_pb2.AddExamplesRequest(model="films", examples=examples(2, prefix="new"))
    await rig.data.AddExamples(add, metadata=as_ann("films"))
    await failure(rig.data.AddExamples(add, metadata=as_ann("reviews")))
    cancel = train_pb2.CancelTrainingRequest(id="job2")
    await rig.train.CancelTraining(cancel, metadata=as_ann("films"))
    await failure(rig.train.CancelTraining(cancel, metadata=as_ann("reviews")))
    messages = [
        data_pb2.ImportExamplesRequest(header=data_pb2.ImportHeader(model="films", no_train=True)),
        data_pb2.ImportExamplesRequest(examples=examples(2, prefix="newer")),
    ]
    await rig.data.ImportExamples(iter(messages), metadata=as_ann("films"))
    headers = {"authorization": as_ann("films")[0][1]}
    answer = await rig.mesh.http.post("/v1/models/films:retry", json={}, headers=headers)
    assert answer.status_code == 400
    await rig.data.GetDataset(data_pb2.GetDatasetRequest(model="films"), metadata=as_ann("films"))
    await until(lambda: len(new()) >= 6)
    assert sorted(new()) == sorted(
        ("ann", "audit-test", *entry)
        for entry in (
            ("AddExamples", "films", "OK"),
            ("AddExamples", "films", "PERMISSION_DENIED"),
            ("CancelTraining", "films", "OK"),
            ("CancelTraining", "", "NOT_FOUND"),
            ("ImportExamples", "films", "OK"),
            ("Retry", "films", "FAILED_PRECONDITION"),
        )
    )
