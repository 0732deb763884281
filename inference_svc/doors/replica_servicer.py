"""ReplicaService, by which the control plane steers this replica; only translates messages."""

from collections.abc import Sequence

from inference_svc.metrics.key_buckets import KeyBucket
from inference_svc.serving.replica import Replica
from inference_svc.serving.slots import CHALLENGER, CHAMPION, ServedVersion, SlotKey
from inference_svc.serving.upcoming_versions import State, UpcomingVersion
from mesh.v1 import reload_pb2, replica_pb2_grpc
from mesh.v1 import replica_pb2 as pb
from service_kit.interceptor import Context

_STATES = {
    State.PREPARING: reload_pb2.MODEL_STATE_PREPARING,
    State.READY: reload_pb2.MODEL_STATE_READY,
    State.FAILED: reload_pb2.MODEL_STATE_FAILED,
}


class ReplicaServicer(replica_pb2_grpc.ReplicaServiceServicer):
    """See protos/mesh/v1/replica.proto."""

    def __init__(
        self,
        replica: Replica,
        replica_id: str,
        device: str,
        http_port: int = 0,
        unary_port: int = 0,
    ) -> None:
        """A port is 0 when the replica does not listen on it; see InferenceSettings."""
        self._replica = replica
        self._replica_id = replica_id
        self.device = device
        self._http_port = http_port
        self._unary_port = unary_port
        self.draining = False

    async def Prepare(self, request: pb.PrepareRequest, context: Context) -> pb.PrepareResponse:
        slot = _slot(request)
        prepare_ms = await self._replica.prepare(slot, request.version, request.source)
        served = self._replica.slots.served(slot)
        return pb.PrepareResponse(
            prepare_ms=prepare_ms, serving_version=served.version if served else ""
        )

    async def Activate(self, request: pb.ActivateRequest, context: Context) -> pb.ActivateResponse:
        slot = _slot(request)
        swap = await self._replica.activate(slot, request.version, request.source)
        return pb.ActivateResponse(
            swap_ms=swap.swap_ms,
            from_version=swap.from_version,
            drained_requests=swap.drained_requests,
        )

    async def Abort(self, request: pb.AbortRequest, context: Context) -> pb.AbortResponse:
        slot = _slot(request)
        await self._replica.abort(slot, request.version, request.source, request.removed)
        return pb.AbortResponse()

    async def GetState(self, request: pb.GetStateRequest, context: Context) -> pb.GetStateResponse:
        slots = [_served_state(served) for served in self._replica.slots.all_served()]
        slots += [_upcoming_state(upcoming) for upcoming in self._replica.upcoming.all()]
        slots.sort(key=lambda state: (state.model, state.role))
        return pb.GetStateResponse(
            replica=self._replica_id,
            device=self.device,
            slots=slots,
            draining=self.draining,
            http_port=self._http_port,
            unary_port=self._unary_port,
            trouble=self._replica.trouble,
        )


def _slot(request: pb.PrepareRequest | pb.ActivateRequest | pb.AbortRequest) -> SlotKey:
    challenger = request.role == reload_pb2.MODEL_ROLE_CHALLENGER
    return SlotKey(request.model, CHALLENGER if challenger else CHAMPION)


def _role(slot: SlotKey) -> reload_pb2.ModelRole:
    if slot.role == CHALLENGER:
        return reload_pb2.MODEL_ROLE_CHALLENGER
    return reload_pb2.MODEL_ROLE_CHAMPION


def _served_state(served: ServedVersion) -> pb.SlotState:
    state = pb.SlotState(
        model=served.slot.model,
        role=_role(served.slot),
        version=served.version,
        state=reload_pb2.MODEL_STATE_SERVING,
        source=served.id.source,
        run_id=served.prepared.info.run_id,
        withdrawn=bool(served.withdrawn),
        detail=served.withdrawn,
        memory_bytes=served.prepared.memory_bytes,
    )
    if served.first_answer_at is not None:
        state.first_answer_at.FromDatetime(served.first_answer_at)
    stats = served.stats
    state.stats.MergeFrom(
        pb.SlotStats(
            answered=stats.answered,
            failed=stats.failed,
            texts=stats.texts,
            latency=_trimmed(stats.latency),
            compute=_trimmed(stats.compute),
            labels=stats.by_label(),
            compared=stats.compared,
            agreed=stats.agreed,
            disagreed=stats.disagreed,
            not_compared=stats.not_compared,
            key_buckets=map(_key_bucket, stats.dealt.all),
            key_bucket_labels=stats.dealt.label_names if stats.dealt.all else (),
        )
    )
    state.stats.since.FromDatetime(served.loaded_at)
    return state


def _key_bucket(entry: KeyBucket) -> pb.KeyBucket:
    return pb.KeyBucket(
        answered=entry.answered,
        failed=entry.failed,
        latency=_trimmed(entry.latency),
        compute=_trimmed(entry.compute),
        labels=_trimmed(entry.labels),
        agreed=entry.agreed,
        disagreed=entry.disagreed,
    )


def _trimmed(counts: Sequence[int]) -> Sequence[int]:
    """Counts without the zeros at the end."""
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return counts[:end]


def _upcoming_state(upcoming: UpcomingVersion) -> pb.SlotState:
    return pb.SlotState(
        model=upcoming.slot.model,
        role=_role(upcoming.slot),
        version=upcoming.version,
        state=_STATES[upcoming.state],
        step=upcoming.progress.step,
        source=upcoming.id.source,
        run_id=upcoming.run_id,
        detail=upcoming.error,
    )
