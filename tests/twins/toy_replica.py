"""Replicas without models that the control plane steers over real gRPC."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc, reload_pb2, replica_pb2, replica_pb2_grpc
from service_kit.errors import Aborted, FailedPrecondition, Unavailable
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings

Context = aio.ServicerContext[Any, Any]
PredictBase: Any = predict_pb2_grpc.PredictServiceServicer


class SteeredReplica(replica_pb2_grpc.ReplicaServiceServicer):
    """Keeps only the numbers of its versions. A test makes it fail at a step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.serving: dict[str, str] = {}
        self.ready: dict[str, str] = {}
        self.sources: dict[tuple[str, str], str] = {}
        """Source of the version of a model in a slot ("serving", "ready")."""

        self.challengers: dict[str, str] = {}
        self.withdrawn: dict[str, str] = {}
        """Models for which it does not answer now, and why."""

        self.mirrored: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Calls by model, as Champion or Challenger."""

        self.refused: Counter[str] = Counter()
        """Calls for models that it has withdrawn."""

        self.first_answer_at: datetime | None = None
        self.http_port = 0
        self.steerable = True
        """It answers the control plane, except about its health."""

        self.fail_at = ""
        self.fail_activate = False
        self.when_preparing: Callable[[], Awaitable[None]] | None = None
        self.when_activating: Callable[[], Awaitable[None]] | None = None

    async def Prepare(
        self, request: replica_pb2.PrepareRequest, context: Context
    ) -> replica_pb2.PrepareResponse:
        if self.when_preparing:
            await self.when_preparing()
        if self.fail_at:
            message = f"{self.fail_at}: the disk is full"
            raise Aborted(message, "PREPARE_FAILED", step=self.fail_at)
        if request.role != reload_pb2.MODEL_ROLE_CHALLENGER:
            self.ready[request.model] = request.version
            self.sources[(request.model, "ready")] = request.source
        return replica_pb2.PrepareResponse(prepare_ms=5)

    async def Activate(
        self, request: replica_pb2.ActivateRequest, context: Context
    ) -> replica_pb2.ActivateResponse:
        if self.when_activating:
            await self.when_activating()
        if self.fail_activate:
            raise FailedPrecondition("cannot activate")
        if request.role == reload_pb2.MODEL_ROLE_CHALLENGER:
            self.challengers[request.model] = request.version
            return replica_pb2.ActivateResponse()
        before = self.serving.get(request.model, "")
        source = self.sources.get((request.model, "serving"))
        if (before, source) != (request.version, request.source):
            if self.ready.pop(request.model, "") != request.version:
                raise FailedPrecondition("not prepared")
            self.serving[request.model] = request.version
            self.sources[(request.model, "serving")] = request.source
        return replica_pb2.ActivateResponse(swap_ms=0.5, from_version=before, drained_requests=1)

    async def Abort(
        self, request: replica_pb2.AbortRequest, context: Context
    ) -> replica_pb2.AbortResponse:
        slot = self.ready
        if request.role == reload_pb2.MODEL_ROLE_CHALLENGER:
            slot = self.challengers
        slot.pop(request.model, None)
        if request.removed:
            self.serving.pop(request.model, None)
            self.sources.pop((request.model, "serving"), None)
        return replica_pb2.AbortResponse()

    async def GetState(
        self, request: replica_pb2.GetStateRequest, context: Context
    ) -> replica_pb2.GetStateResponse:
        if not self.steerable:
            raise Unavailable("the control plane cannot reach it")
        slots = [self._slot(model) for model in self.serving]
        slots += [
            replica_pb2.SlotState(
                model=model,
                role=reload_pb2.MODEL_ROLE_CHALLENGER,
                version=version,
                state=reload_pb2.MODEL_STATE_SERVING,
            )
            for model, version in self.challengers.items()
        ]
        return replica_pb2.GetStateResponse(
            replica=self.name, device="cpu", slots=slots, http_port=self.http_port
        )

    def _slot(self, model: str) -> replica_pb2.SlotState:
        slot = replica_pb2.SlotState(
            model=model,
            role=reload_pb2.MODEL_ROLE_CHAMPION,
            version=self.serving[model],
            state=reload_pb2.MODEL_STATE_SERVING,
            source=self.sources.get((model, "serving"), ""),
            withdrawn=model in self.withdrawn,
            detail=self.withdrawn.get(model, ""),
        )
        if self.first_answer_at:
            slot.first_answer_at.FromDatetime(self.first_answer_at.astimezone(UTC))
        return slot


class VersionPredict(PredictBase):  # type: ignore[misc]
    """Answers with the version that its replica serves in the role that Envoy chose."""

    def __init__(self, replica: SteeredReplica) -> None:
        self.replica = replica

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: Context
    ) -> predict_pb2.PredictResponse:
        if request.model in self.replica.withdrawn:
            self.replica.refused[request.model] += 1
            raise Unavailable(f"{self.replica.name} does not answer for {request.model}")
        self.replica.answered[request.model] += 1
        metadata = dict(context.invocation_metadata() or ())
        version, alias = self.replica.serving.get(request.model, ""), "Champion"
        if (
            metadata.get("x-mesh-role") == "challenger"
            and request.model in self.replica.challengers
        ):
            version, alias = self.replica.challengers[request.model], "Challenger"
        if metadata.get("x-mesh-mirror"):
            self.replica.mirrored[version] += 1
        self.replica.first_answer_at = self.replica.first_answer_at or datetime.now(UTC)
        answered_by = {"model": request.model, "version": version, "alias": alias}
        answered_by["replica"] = self.replica.name
        trailers = [(f"x-mesh-{key}", value) for key, value in answered_by.items()]
        context.set_trailing_metadata(trailers)
        model = predict_pb2.ServedModel(name=request.model, version=version, alias=alias)
        return predict_pb2.PredictResponse(model=model, replica=self.replica.name)


class SteeredService:
    """The services of a replica."""

    names = ("mesh.v1.PredictService", "mesh.v1.ReplicaService")

    def __init__(self, replica: SteeredReplica) -> None:
        self._replica = replica

    def register(self, server: aio.Server) -> None:
        replica_pb2_grpc.add_ReplicaServiceServicer_to_server(self._replica, server)
        predict: Any = predict_pb2_grpc.add_PredictServiceServicer_to_server
        predict(VersionPredict(self._replica), server)

    async def startup(self) -> None:
        return

    async def shutdown(self) -> None:
        return


def replica_server(replica: SteeredReplica, port: int = 0) -> GrpcServer:
    """Return a server of this replica, to be entered; it stops at once."""
    service: Any = SteeredService(replica)
    return GrpcServer(service, ServiceSettings(port=port, drain_seconds=0, grace_seconds=0))
