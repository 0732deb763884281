"""The calls of the training service and the trigger service that a removal makes, over gRPC."""

from typing import Any

from grpc import aio

from mesh.v1 import model_rows_pb2, model_rows_pb2_grpc, train_pb2, train_pb2_grpc
from service_kit.errors import NotFound
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings

Context = aio.ServicerContext[Any, Any]
TrainBase: Any = train_pb2_grpc.TrainServiceServicer


class ToyJobs(TrainBase):  # type: ignore[misc]
    """Jobs that end when they are cancelled, one on each page."""

    def __init__(self) -> None:
        self.jobs: dict[str, train_pb2.TrainingJob] = {}

    def add(self, job: str, model: str) -> None:
        """Add a job that runs."""
        state = train_pb2.TRAINING_STATE_RUNNING
        self.jobs[job] = train_pb2.TrainingJob(id=job, model=model, state=state)

    async def ListTrainings(
        self, request: train_pb2.ListTrainingsRequest, context: Context
    ) -> train_pb2.ListTrainingsResponse:
        jobs = [job for job in self.jobs.values() if job.model == request.model]
        page = int(request.page_token or 0)
        more = str(page + 1) if page + 1 < len(jobs) else ""
        return train_pb2.ListTrainingsResponse(
            trainings=jobs[page : page + 1], next_page_token=more
        )

    async def CancelTraining(
        self, request: train_pb2.CancelTrainingRequest, context: Context
    ) -> train_pb2.TrainingJob:
        if request.id not in self.jobs:
            raise NotFound("no such job")
        self.jobs[request.id].state = train_pb2.TRAINING_STATE_CANCELLED
        return self.jobs[request.id]


class ToyRows(model_rows_pb2_grpc.ModelRowsServiceServicer):
    """Knows some models and tables."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.tables: set[str] = set()

    async def Forget(
        self, request: model_rows_pb2.ForgetRequest, context: Context
    ) -> model_rows_pb2.ForgetResponse:
        known, dropped = request.model in self.models, False
        self.models.discard(request.model)
        if request.with_rows:
            dropped = request.model in self.tables
            self.tables.discard(request.model)
        return model_rows_pb2.ForgetResponse(known=known, rows_removed=dropped)


class JobsAndRows:
    """Both services in one server."""

    names = ("mesh.v1.TrainService", "mesh.v1.ModelRowsService")

    def __init__(self) -> None:
        self.jobs = ToyJobs()
        self.rows = ToyRows()

    def register(self, server: aio.Server) -> None:
        add: Any = train_pb2_grpc.add_TrainServiceServicer_to_server
        add(self.jobs, server)
        model_rows_pb2_grpc.add_ModelRowsServiceServicer_to_server(self.rows, server)

    async def startup(self) -> None:
        return

    async def shutdown(self) -> None:
        return


def jobs_and_rows_server(services: JobsAndRows) -> GrpcServer:
    """Return a server of both, to be entered; it stops at once."""
    service: Any = services
    return GrpcServer(service, ServiceSettings(port=0, drain_seconds=0, grace_seconds=0))
