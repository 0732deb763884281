"""Puts the control plane together; starts and stops its parts."""

import asyncio
import time
from collections.abc import Sequence

from grpc import aio

from control_plane.canary.canaries import Canaries
from control_plane.canary.judge import Judge, Rules
from control_plane.canary.live_numbers import FleetNumbers
from control_plane.canary.seams import CanaryParts
from control_plane.changes.answer_store import SCHEMA as ANSWERS
from control_plane.changes.answer_store import PostgresAnswers
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.version_marks import Marks
from control_plane.fleet.connections import ReplicaConnections
from control_plane.fleet.discovery import discover
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.fleet_view import FleetView
from control_plane.fleet.grpc_replica import GrpcReplica
from control_plane.fleet.version_change import Timings
from control_plane.models.catalog import Catalog
from control_plane.models.sourced_registry import SourcedRegistry
from control_plane.reload.coordinator import ReloadCoordinator
from control_plane.reload.pending_switches import PendingSwitches
from control_plane.reload.repairs import Repairs
from control_plane.reload.upkeep import Upkeep
from control_plane.removal.model_removal import ModelRemoval, RemovalParts
from control_plane.removal.other_services import GrpcServices
from control_plane.removal.removed_models import SCHEMA as REMOVALS
from control_plane.removal.removed_models import PostgresRemovals, RemovedModels
from control_plane.servicer import ReloadServicer
from control_plane.settings import ControlPlaneSettings
from control_plane.traffic.envoy_targets import EnvoyTargets
from control_plane.traffic.publisher import EnvoyPublisher
from control_plane.traffic.traffic_control import TrafficControl
from control_plane.xds import DiscoveryServer
from mesh.v1 import reload_pb2_grpc
from service_kit.database import Database, apply_schema
from service_kit.model_registry.promotion import SCHEMA, Promotions


class ControlPlane:
    """A service_kit.server.Service."""

    names: Sequence[str] = ("mesh.v1.ReloadService",)

    def __init__(self, settings: ControlPlaneSettings) -> None:
        timings = Timings(prepare_s=settings.prepare_seconds)
        locks = ModelLocks()
        self._registry = SourcedRegistry(settings.mlflow_url)
        self._database = Database(settings.database_url, "control-plane", threads=2)
        answers = PostgresAnswers(self._database)
        self._fleet = Fleet(
            ReplicaConnections(discover(settings.replicas, settings.replicas_file), GrpcReplica)
        )
        removed = RemovedModels(PostgresRemovals(self._database))
        self._repairs = Repairs(self._registry, locks, timings, removed.removed)
        marks, catalog = Marks(self._registry), Catalog(self._registry)
        self._discovery = DiscoveryServer()
        targets = EnvoyTargets(
            settings.topology(), EnvoyPublisher(self._discovery), locks, time.monotonic
        )
        promotions = Promotions(settings.database_url, self._registry)
        self._coordinator = ReloadCoordinator(
            self._fleet,
            self._registry,
            promotions,
            locks,
            self._repairs,
            marks,
            timings,
            catalog,
            targets,
            answers,
        )
        self._switches = PendingSwitches(self._coordinator.close_gap)
        self._upkeep = Upkeep(
            self._fleet,
            catalog,
            locks,
            self._repairs,
            marks,
            targets,
            self._switches,
            settings.upkeep_seconds,
        )
        self._traffic = TrafficControl(
            self._registry, catalog, self._fleet, locks, targets, timings, answers
        )
        self._canaries = Canaries(
            CanaryParts(
                self._registry,
                self._traffic,
                FleetNumbers(self._fleet),
                promotions,
                self._coordinator,
                Judge(Rules(canary_p_value=settings.canary_p_value)),
            )
        )
        self._services = GrpcServices(settings.training, settings.trigger)
        self._removal = ModelRemoval(
            RemovalParts(
                self._registry,
                self._services,
                removed,
                answers,
                self._fleet,
                catalog,
                targets,
                locks,
                self._repairs,
                self._canaries.forget,
                timings,
            )
        )
        self._servicer = ReloadServicer(
            self._coordinator,
            FleetView(self._fleet, catalog),
            self._traffic,
            self._canaries,
            self._switches,
            self._removal,
        )
        self._background: list[asyncio.Task[None]] = []

    def register(self, server: aio.Server) -> None:
        reload_pb2_grpc.add_ReloadServiceServicer_to_server(self._servicer, server)
        self._discovery.register(server)

    async def startup(self) -> None:
        # Nothing is waited for: Reload needs neither PostgreSQL nor a complete fleet.
        schema = apply_schema(self._database, "control plane", SCHEMA, ANSWERS, REMOVALS)
        self._background = [
            asyncio.create_task(schema),
            asyncio.create_task(self._upkeep.run()),
            asyncio.create_task(self._canaries.resume()),
            asyncio.create_task(self._removal.resume()),
        ]

    async def drain(self) -> None:
        """End the streams to Envoy, which goes on with the configuration that it has."""
        self._discovery.close()

    async def shutdown(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._canaries.close()
        await self._switches.close()
        await self._removal.close()
        await self._coordinator.close()
        await self._traffic.close()
        await self._repairs.close()
        await self._fleet.close()
        await self._services.close()
        await self._registry.close()
        await self._database.close()
