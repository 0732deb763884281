"""What a removal asks the other services for: to end a model's jobs, and its rows."""

import uuid
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

import grpc
from grpc import aio

from mesh.v1 import model_rows_pb2, model_rows_pb2_grpc, train_pb2, train_pb2_grpc
from service_kit.errors import NotFound, Unavailable
from service_kit.identities.identity import Identity
from service_kit.identities.names import TRAINING, TRIGGER
from service_kit.identities.part_client import PartClient

T = TypeVar("T")

CALL_S = 20.0
JOBS_A_PAGE = 500
_RUNNING = (
    train_pb2.TRAINING_STATE_QUEUED,
    train_pb2.TRAINING_STATE_RUNNING,
    train_pb2.TRAINING_STATE_EVALUATING,
)


class OtherServices(Protocol):
    """The two services. Every method may be repeated, and raises Unavailable."""

    async def forget_rows(self, model: str, with_rows: bool) -> tuple[bool, bool]:
        """End the model's turns; `with_rows` drops its table.

        Return whether the service knew the model, and whether a table was dropped.
        """

    async def running_jobs(self, model: str) -> list[str]:
        """Return the ids of the model's jobs that have not ended."""

    async def cancel_job(self, job: str) -> None:
        """Ask a job to end."""


class GrpcServices:
    """OtherServices over gRPC."""

    def __init__(self, training: str, trigger: str, identity: Identity | None = None) -> None:
        """`training` and `trigger` are host:port of the services."""
        self._training: PartClient[Any] = PartClient(
            training, TRAINING, train_pb2_grpc.TrainServiceStub, identity
        )
        self._rows: PartClient[Any] = PartClient(
            trigger, TRIGGER, model_rows_pb2_grpc.ModelRowsServiceStub, identity
        )

    async def forget_rows(self, model: str, with_rows: bool) -> tuple[bool, bool]:
        """See OtherServices."""
        request = model_rows_pb2.ForgetRequest(model=model, with_rows=with_rows)
        async with self._rows.stubs() as rows:
            call = rows.Forget(request, timeout=CALL_S)
            answer: model_rows_pb2.ForgetResponse = await _answer("the trigger service", call)
        return answer.known, answer.rows_removed

    async def running_jobs(self, model: str) -> list[str]:
        """See OtherServices."""
        running, token = list[str](), ""
        while True:
            request = train_pb2.ListTrainingsRequest(
                model=model, page_size=JOBS_A_PAGE, page_token=token
            )
            async with self._training.stubs() as training:
                call = training.ListTrainings(request, timeout=CALL_S)
                page: train_pb2.ListTrainingsResponse = await _answer("the training service", call)
            running += [job.id for job in page.trainings if job.state in _RUNNING]
            token = page.next_page_token
            if not token:
                return running

    async def cancel_job(self, job: str) -> None:
        """See OtherServices."""
        request = train_pb2.CancelTrainingRequest(id=job, request_id=str(uuid.uuid4()))
        try:
            async with self._training.stubs() as training:
                call = training.CancelTraining(request, timeout=CALL_S)
                await _answer("the training service", call)
        except NotFound:
            return  # it is gone

    async def close(self) -> None:
        """Close the connections."""
        await self._training.close()
        await self._rows.close()


async def _answer(service: str, call: Awaitable[T]) -> T:
    try:
        return await call
    except aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise NotFound(error.details() or "not found") from error
        raise Unavailable(
            f"{service} did not do its part: {error.details() or error.code().name}"
        ) from error
