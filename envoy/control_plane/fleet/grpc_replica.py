"""The control plane's gRPC client of one replica."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC
from itertools import chain, repeat
from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.fleet.replica_client import (
    Activated,
    Prepared,
    ReplicaAway,
    ReplicaError,
    ReplicaState,
    Role,
    Slot,
    SlotState,
    StepFailed,
)
from control_plane.fleet.slot_stats import KeyBucket, SlotStats
from mesh.v1 import reload_pb2, replica_pb2, replica_pb2_grpc
from service_kit.identities.identity import Identity
from service_kit.identities.names import INFERENCE
from service_kit.identities.part_client import PartClient
from service_kit.model_registry.records import VersionRef

T = TypeVar("T")

PREDICT_SERVICE = "mesh.v1.PredictService"
OPTIONS: list[tuple[str, int]] = [
    # Pings notice a machine that vanished while a long Prepare waits for its answer.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The client is connected again within a second after a replica restarted.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
_DETAILS_KEY = "grpc-status-details-bin"


class GrpcReplica:
    """ReplicaClient over gRPC."""

    def __init__(self, address: str, identity: Identity | None = None) -> None:
        self.address = address
        self._client = PartClient(address, INFERENCE, _Stubs, identity, OPTIONS)
        self._closed = False

    async def state(self, timeout_s: float) -> ReplicaState:
        health = health_pb2.HealthCheckRequest(service=PREDICT_SERVICE)
        answer, check = await self._call(
            lambda stubs: asyncio.gather(
                stubs.replica.GetState(replica_pb2.GetStateRequest(), timeout=timeout_s),
                stubs.health.Check(health, timeout=timeout_s),
            )
        )
        return ReplicaState(
            replica=answer.replica,
            device=answer.device,
            slots=tuple(_slot(slot) for slot in answer.slots if slot.state),
            draining=answer.draining,
            http_port=answer.http_port,
            unary_port=answer.unary_port,
            trouble=answer.trouble,
            serving=check.status == health_pb2.HealthCheckResponse.SERVING,
        )

    async def prepare(self, model: str, ref: VersionRef, role: Role, timeout_s: float) -> Prepared:
        request = replica_pb2.PrepareRequest(
            model=model, version=ref.version, source=ref.source, role=_role(role)
        )
        answer = await self._call(lambda stubs: stubs.replica.Prepare(request, timeout=timeout_s))
        return Prepared(answer.prepare_ms)

    async def activate(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float
    ) -> Activated:
        request = replica_pb2.ActivateRequest(
            model=model, version=ref.version, source=ref.source, role=_role(role)
        )
        answer = await self._call(lambda stubs: stubs.replica.Activate(request, timeout=timeout_s))
        return Activated(answer.swap_ms, answer.from_version, answer.drained_requests)

    async def abort(
        self, model: str, ref: VersionRef, role: Role, timeout_s: float, removed: bool = False
    ) -> None:
        request = replica_pb2.AbortRequest(
            model=model,
            version=ref.version,
            source=ref.source,
            role=_role(role),
            removed=removed,
        )
        await self._call(lambda stubs: stubs.replica.Abort(request, timeout=timeout_s))

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def _call(self, call: Callable[["_Stubs"], Awaitable[T]]) -> T:
        if self._closed:
            raise ReplicaAway("it is not in the fleet any more")
        try:
            async with self._client.stubs() as stubs:
                return await call(stubs)
        except aio.AioRpcError as error:
            raise _replica_error(error) from error


class _Stubs:
    """What the control plane calls on a replica."""

    def __init__(self, channel: aio.Channel) -> None:
        self.replica = replica_pb2_grpc.ReplicaServiceStub(channel)
        # The type stubs of HealthStub lack its methods.
        self.health: Any = health_pb2_grpc.HealthStub(channel)


def _replica_error(error: aio.AioRpcError) -> ReplicaError:
    message = error.details() or error.code().name
    info = _error_info(error)
    if info is None and error.code() in _AWAY:
        return ReplicaAway(message)
    step = (info.metadata.get("step") or info.reason) if info else error.code().name
    return StepFailed(step, message.removeprefix(f"{step}: "))


def _error_info(error: aio.AioRpcError) -> ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return info
    return None


def _slot(slot: replica_pb2.SlotState) -> Slot:
    answered = slot.HasField("first_answer_at")
    return Slot(
        model=slot.model,
        version=slot.version,
        state=SlotState(slot.state),
        role=Role(slot.role or reload_pb2.MODEL_ROLE_CHAMPION),
        step=slot.step,
        first_answer_at=slot.first_answer_at.ToDatetime(UTC) if answered else None,
        since=slot.stats.since.ToDatetime(UTC) if slot.HasField("stats") else None,
        stats=_stats(slot.stats),
        source=slot.source,
        run_id=slot.run_id,
        withdrawn=slot.withdrawn,
        detail=slot.detail,
        memory_bytes=slot.memory_bytes,
    )


def _stats(stats: replica_pb2.SlotStats) -> SlotStats:
    names = tuple(stats.key_bucket_labels)
    buckets = tuple(_key_bucket(bucket, names) for bucket in stats.key_buckets)
    return SlotStats(buckets, stats.not_compared)


def _key_bucket(bucket: replica_pb2.KeyBucket, names: Sequence[str]) -> KeyBucket:
    return KeyBucket(
        bucket.answered,
        bucket.failed,
        tuple(bucket.latency),
        tuple(bucket.compute),
        # The replica leaves out zeros at the end.
        dict(zip(names, chain(bucket.labels, repeat(0)), strict=False)),
        bucket.agreed,
        bucket.disagreed,
    )


def _role(role: Role) -> str:
    return f"MODEL_ROLE_{role.name}"
