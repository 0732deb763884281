"""TrainService over gRPC: only translates messages."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.v1 import train_pb2, train_pb2_grpc
from service_kit.callers.caller import current
from service_kit.callers.shares import Shares
from service_kit.errors import InvalidArgument
from service_kit.interceptor import Context
from service_kit.limits import check_request_id
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.job import Job, Params, Promotion, Submission
from training_svc.jobs.request_validation import no_training

# Jobs that one caller may watch at a time.
WATCHES_OF_A_CALLER = 128
_PROMOTIONS = {
    train_pb2.PROMOTION_UNSPECIFIED: Promotion.AUTO,
    train_pb2.PROMOTION_AUTO: Promotion.AUTO,
    train_pb2.PROMOTION_CHALLENGER_ONLY: Promotion.CHALLENGER_ONLY,
}


class TrainServicer(train_pb2_grpc.TrainServiceServicer):
    """See protos/mesh/v1/train.proto."""

    def __init__(self, actions: CallerActions) -> None:
        self._actions = actions
        self._watches = Shares("watched trainings", WATCHES_OF_A_CALLER)

    async def Train(self, request: train_pb2.TrainRequest, context: Context) -> Any:
        """Submit a training job."""
        promotion = _PROMOTIONS.get(request.promotion)
        if promotion is None:
            raise InvalidArgument("promotion", f"{request.promotion} is not a value of Promotion")
        asked = Submission(
            *(request.model, request.request_id, _params(request.params)),
            *(promotion, request.serve),
        )
        return job_message(await self._actions.submit(asked))

    async def GetTraining(self, request: train_pb2.GetTrainingRequest, context: Context) -> Any:
        """Return one job."""
        return job_message(await self._allowed(request.id))

    async def ListTrainings(self, request: train_pb2.ListTrainingsRequest, context: Context) -> Any:
        """Return the jobs of a model."""
        jobs, next_token = await self._actions.list(
            request.model, request.page_size, request.page_token, request.limit
        )
        return train_pb2.ListTrainingsResponse(
            trainings=map(job_message, jobs), next_page_token=next_token
        )

    async def WatchTraining(
        self, request: train_pb2.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[train_pb2.TrainingJob]:
        """Stream the job whenever it changes, and again when it has not changed for a while."""
        if not current().may_all:
            await self._allowed(request.id)
        with self._watches.held(context):
            async with aclosing(self._actions.watch(request.id)) as jobs:
                async for job in jobs:
                    yield job_message(job)

    async def CancelTraining(
        self, request: train_pb2.CancelTrainingRequest, context: Context
    ) -> Any:
        """Cancel a job."""
        check_request_id(request.request_id)
        if not current().may_all:
            await self._allowed(request.id)
        return job_message(await self._actions.cancel(request.id))

    async def _allowed(self, any_id: str) -> Job:
        """Return a job of a model that the caller may work with. Raises NotFound: a caller learns
        nothing of other models' jobs, not even that there is one."""
        job = await self._actions.get(any_id)
        if not current().may(job.model):
            raise no_training(any_id)
        return job


def job_message(job: Job) -> train_pb2.TrainingJob:
    """Return the job as the message of train.proto."""
    message = train_pb2.TrainingJob(
        id=job.id,
        request_id=job.request_id,
        model=job.model,
        state=f"TRAINING_STATE_{job.state}",
        attempt=job.attempt,
        device=job.device,
        run_id=job.run_id,
        version=job.version,
        metrics=job.metrics,
        error=job.error,
        created_at=_timestamp(job.created_at),
        started_at=_timestamp(job.started_at),
        ended_at=_timestamp(job.ended_at),
        params=train_pb2.TrainParams(**job.params_as_dict()),
        promotion=f"PROMOTION_{job.promotion}",
        serve=job.serve,
        lasting_error=job.lasting_error,
    )
    if job.progress is not None:
        message.progress.CopyFrom(train_pb2.TrainingProgress(**job.progress))
    if job.rows is not None:
        message.rows.CopyFrom(train_pb2.TrainingRows(**job.rows))
    if job.decision is not None:
        message.decision.CopyFrom(_decision(job.decision))
    return message


def _decision(decision: Mapping[str, Any]) -> train_pb2.Decision:
    outcome = f"DECISION_OUTCOME_{decision['outcome']}"
    # The job's decision also has numbers for the canary, which are not part of the contract.
    public = {field.name for field in train_pb2.Decision.DESCRIPTOR.fields}
    shown = {name: value for name, value in decision.items() if name in public}
    return train_pb2.Decision(**(shown | {"outcome": outcome}))


def _params(message: train_pb2.TrainParams) -> Params:
    return Params(
        base_model=message.base_model,
        epochs=message.epochs,
        batch_size=message.batch_size,
        learning_rate=message.learning_rate,
        max_length=message.max_length,
        seed=message.seed,
        warm_start=message.warm_start,
        max_examples=message.max_examples,
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message
