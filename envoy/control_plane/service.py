"""Puts the control plane together; starts and stops its parts."""

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from grpc import aio

from control_plane.access.revoked_tokens import RevokedTokens
from control_plane.access.token_watch import TokenWatch
from control_plane.canary.canaries import Canaries
from control_plane.canary.judge import Judge, Rules
from control_plane.canary.live_numbers import FleetNumbers
from control_plane.canary.seams import CanaryParts
from control_plane.canary.steps import TAG_CANARY
from control_plane.changes.answer_store import SCHEMA as ANSWERS
from control_plane.changes.answer_store import PostgresAnswers
from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.record_store import SCHEMA as RECORDS_KEPT
from control_plane.changes.record_store import RecordStore
from control_plane.changes.version_marks import Marks
from control_plane.fleet.connections import ReplicaConnections
from control_plane.fleet.discovery import discover
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.fleet_view import FleetView
from control_plane.fleet.version_change import Timings
from control_plane.leadership.fenced import FencedRegistry, FencedReplica
from control_plane.leadership.leadership import Leadership
from control_plane.leadership.lease import SCHEMA as LEADER
from control_plane.leadership.lease import Holder, PostgresLease
from control_plane.models.catalog import Catalog
from control_plane.models.chosen_version import TAG_CHOSEN
from control_plane.models.signed_records import SignedRecords
from control_plane.models.stored_split import TAG_TRAFFIC
from control_plane.reload.coordinator import ReloadCoordinator
from control_plane.reload.pending_switches import PendingSwitches
from control_plane.reload.record_keeping import RecordKeeping
from control_plane.reload.repairs import Repairs
from control_plane.reload.rollback_intent import TAG_ROLLBACK
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
from service_kit.audit.log import SCHEMA as AUDIT
from service_kit.audit.log import AuditLog
from service_kit.callers.token_table import SCHEMA as TOKENS
from service_kit.database import Database, apply_schema
from service_kit.errors import Unavailable
from service_kit.identities.identity import Identity
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.promotion import SCHEMA, Promotions
from service_kit.signing.first_use import RECORDS, FirstUse
from service_kit.signing.first_use import SCHEMA as SIGNING_KEYS
from service_kit.signing.keys import SigningKey, TrustedKeys

log = logging.getLogger(__name__)


class ControlPlane:
    """A service_kit.server.Service."""

    names: Sequence[str] = ("mesh.v1.ReloadService",)

    def __init__(self, settings: ControlPlaneSettings) -> None:
        identity = Identity.of(settings.identity_folder)
        timings = Timings(prepare_s=settings.prepare_seconds)
        locks = ModelLocks()
        # Nothing else uses this connection, so that no other work holds up a renewal.
        self._lease_database = Database(settings.database_url, "control-plane-lease", threads=1)
        self._leadership = Leadership(
            PostgresLease(self._lease_database),
            Holder(uuid.uuid4().hex, f"{socket.gethostname()}:{settings.port}"),
            time.monotonic,
            self._begin_to_lead,
            self._cease_to_lead,
        )
        confirm = self._leadership.confirm
        self._database = Database(settings.database_url, "control-plane", threads=2)
        self.audit = AuditLog(settings.database_url, "control-plane")
        records = self._records(settings)
        self._registry = FencedRegistry(
            settings.mlflow_url, confirm, records, MlflowToken.of(settings)
        )
        self._record_keeping: RecordKeeping | None = None
        if settings.signing_key and records:
            key_id = SigningKey.read(settings.signing_key).key_id
            first_use = FirstUse(self._database, RECORDS, key_id)
            self._record_keeping = RecordKeeping(
                *(self._registry, records, first_use, RecordStore(self._database)),
                *(locks, lambda: self._leadership.leads),
            )
        answers = PostgresAnswers(self._database)
        self._fleet = Fleet(
            ReplicaConnections(
                discover(settings.replicas, settings.replicas_file),
                lambda address: FencedReplica(address, confirm, identity),
            )
        )
        removed = RemovedModels(PostgresRemovals(self._database))
        self._repairs = Repairs(self._registry, locks, timings, removed.removed)
        marks, catalog = Marks(self._registry), Catalog(self._registry)
        self._discovery = DiscoveryServer()
        publisher = EnvoyPublisher(self._discovery)
        targets = EnvoyTargets(settings.topology(), publisher, locks, time.monotonic)
        revoked = RevokedTokens(self._database, settings.revoked_tokens_file)
        self._tokens = (
            TokenWatch(settings.token_keys, revoked, publisher.use) if settings.token_keys else None
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
            lambda: self._leadership.leads,
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
        self._services = GrpcServices(settings.training, settings.trigger, identity)
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
            self._leadership,
        )
        self._leading: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[None]] = []

    def _records(self, settings: ControlPlaneSettings) -> SignedRecords | None:
        if settings.signing_key is None:
            return None
        key = SigningKey.read(settings.signing_key)
        keys = TrustedKeys.beside(key, settings.record_keys)
        return SignedRecords(key, keys, (TAG_TRAFFIC, TAG_CHOSEN, TAG_ROLLBACK, TAG_CANARY))

    def register(self, server: aio.Server) -> None:
        reload_pb2_grpc.add_ReloadServiceServicer_to_server(self._servicer, server)
        self._discovery.register(server)

    async def startup(self) -> None:
        # Nothing is waited for: Envoy is told of the replicas while PostgreSQL is away.
        self._background = [
            asyncio.create_task(self._make_tables()),
            asyncio.create_task(self._upkeep.run()),
            asyncio.create_task(self._leadership.run()),
        ]
        if self._tokens:
            self._tokens.begin()
            self._background.append(asyncio.create_task(self._tokens.run()))
        else:
            log.warning(
                "ANYBODY MAY CALL EVERYTHING, training and releases included: "
                "CONTROL_PLANE_TOKEN_KEYS names no file of keys, so Envoy asks for no token"
            )

        if self._record_keeping is not None:
            self._background.append(asyncio.create_task(self._record_keeping.run()))

    async def _make_tables(self) -> None:
        scripts = (SCHEMA, ANSWERS, REMOVALS, LEADER, TOKENS, SIGNING_KEYS, RECORDS_KEPT, AUDIT)
        try:
            await apply_schema(self._database, "control plane", *scripts)
        except Exception:
            log.exception("the control plane's tables cannot be made, so it changes nothing")
            raise

    async def _begin_to_lead(self) -> None:
        if self._record_keeping is not None:
            with suppress(Unavailable):
                # Before it acts on what is in MLflow. Where the tables are not made yet, there is
                # nothing to recall.
                await self._record_keeping.recall()
        self._leading = [
            asyncio.create_task(self._canaries.resume()),
            asyncio.create_task(self._removal.resume()),
        ]

    async def _cease_to_lead(self) -> None:
        """Break off every change: the control plane that leads goes on with them."""
        for task in self._leading:
            task.cancel()
        await asyncio.gather(*self._leading, return_exceptions=True)
        await self._canaries.close()
        await self._switches.close()
        await self._removal.close()
        await self._coordinator.close()
        await self._traffic.close()
        await self._repairs.close()

    async def drain(self) -> None:
        """End the streams to Envoy, which goes on with the configuration that it has."""
        self._discovery.close()

    async def shutdown(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._cease_to_lead()
        await self._leadership.release()
        await self._fleet.close()
        await self._services.close()
        await self._registry.close()
        await self._database.close()
        await self._lease_database.close()
