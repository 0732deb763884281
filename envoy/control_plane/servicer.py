"""ReloadService: checks and translates messages, and nothing else."""

from dataclasses import asdict
from typing import Any

from grpc import aio

from control_plane.canary.canaries import Canaries
from control_plane.canary.record import Plan
from control_plane.canary.view import canary_message
from control_plane.fleet.fleet_view import FleetView, view_fleet
from control_plane.leadership.leadership import Leadership
from control_plane.reload.coordinator import ReloadCoordinator, ReloadResult
from control_plane.reload.pending_switches import PendingSwitches
from control_plane.removal.model_removal import ModelRemoval
from control_plane.topology import Split
from control_plane.traffic.traffic_control import TrafficControl
from mesh.v1 import reload_pb2, reload_pb2_grpc
from service_kit.callers.caller import current
from service_kit.limits import check_model_name, check_request_id

Context = aio.ServicerContext[Any, Any]


class ReloadServicer(reload_pb2_grpc.ReloadServiceServicer):
    """Answers the calls that Envoy passes on."""

    def __init__(
        self,
        coordinator: ReloadCoordinator,
        fleet: FleetView,
        traffic: TrafficControl,
        canaries: Canaries,
        switches: PendingSwitches,
        removal: ModelRemoval,
        leadership: Leadership,
    ) -> None:
        self._leadership = leadership
        self._removal = removal
        self._switches = switches
        self._coordinator = coordinator
        self._fleet = fleet
        self._traffic = traffic
        self._canaries = canaries

    async def Reload(
        self, request: reload_pb2.ReloadRequest, context: Context
    ) -> reload_pb2.ReloadResponse:
        await self._leadership.confirm()
        model, request_id = check_model_name(request.model), check_request_id(request.request_id)
        return _response(await self._coordinator.reload(model, request.version, request_id))

    async def Rollback(
        self, request: reload_pb2.RollbackRequest, context: Context
    ) -> reload_pb2.ReloadResponse:
        await self._leadership.confirm()
        model, request_id = check_model_name(request.model), check_request_id(request.request_id)
        return _response(await self._coordinator.rollback(model, request_id))

    async def RemoveModel(
        self, request: reload_pb2.RemoveModelRequest, context: Context
    ) -> reload_pb2.RemoveModelResponse:
        await self._leadership.confirm()
        model, request_id = check_model_name(request.model), check_request_id(request.request_id)
        removed = await self._removal.remove(model, request.with_rows, request_id)
        return reload_pb2.RemoveModelResponse(**asdict(removed))

    async def GetFleet(
        self, request: reload_pb2.GetFleetRequest, context: Context
    ) -> reload_pb2.Fleet:
        return _visible(view_fleet(*await self._fleet.look(), self._switches.why))

    async def GetTraffic(
        self, request: reload_pb2.GetTrafficRequest, context: Context
    ) -> reload_pb2.Traffic:
        model = check_model_name(request.model)
        return _traffic(model, await self._traffic.get(model))

    async def SetTraffic(
        self, request: reload_pb2.SetTrafficRequest, context: Context
    ) -> reload_pb2.Traffic:
        await self._leadership.confirm()
        model = check_model_name(request.model)
        request_id = check_request_id(request.request_id)
        split = Split(request.champion_weight, request.challenger_weight, request.mirror_percent)
        return _traffic(model, await self._traffic.set(model, split, request_id))

    async def StartCanary(
        self, request: reload_pb2.StartCanaryRequest, context: Context
    ) -> reload_pb2.Canary:
        await self._leadership.confirm()
        model, request_id = check_model_name(request.model), check_request_id(request.request_id)
        plan = Plan(tuple(request.steps), request.step_seconds, request.mirror_percent)
        return canary_message(await self._canaries.start(model, plan, request_id))

    async def GetCanary(
        self, request: reload_pb2.GetCanaryRequest, context: Context
    ) -> reload_pb2.Canary:
        return canary_message(await self._canaries.get(check_model_name(request.model)))

    async def StopCanary(
        self, request: reload_pb2.StopCanaryRequest, context: Context
    ) -> reload_pb2.Canary:
        await self._leadership.confirm()
        check_request_id(request.request_id)
        return canary_message(await self._canaries.stop(check_model_name(request.model)))


def _visible(fleet: reload_pb2.Fleet) -> reload_pb2.Fleet:
    """Return what the caller may see of a fleet."""
    caller = current()
    if caller.may_all:
        return fleet
    replicas = []
    for replica in fleet.replicas:
        shown = reload_pb2.Replica()
        shown.CopyFrom(replica)
        # The text may name any model.
        shown.ClearField("detail")
        del shown.models[:]
        shown.models.extend(model for model in replica.models if caller.may(model.name))
        replicas.append(shown)
    models = [model for model in fleet.models if caller.may(model.name)]
    return reload_pb2.Fleet(models=models, replicas=replicas)


def _response(result: ReloadResult) -> reload_pb2.ReloadResponse:
    replicas = [
        reload_pb2.ReplicaReload(
            replica=part.replica,
            from_version=part.from_version,
            to_version=part.to_version,
            prepare_ms=part.prepare_ms,
            swap_ms=part.swap_ms,
            drained_requests=part.drained_requests,
        )
        for part in result.replicas
    ]
    return reload_pb2.ReloadResponse(
        model=result.model,
        from_version=result.from_version,
        to_version=result.to_version,
        replicas=replicas,
    )


def _traffic(model: str, split: Split) -> reload_pb2.Traffic:
    return reload_pb2.Traffic(
        model=model,
        champion_weight=split.champion,
        challenger_weight=split.challenger,
        mirror_percent=split.mirror_percent,
    )
