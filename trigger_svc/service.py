"""The trigger service: DataService, and the bridge beside it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from grpc import aio

from mesh.v1 import data_pb2_grpc, model_rows_pb2_grpc
from service_kit.audit.cleaning import keep_clean
from service_kit.audit.log import SCHEMA as AUDIT
from service_kit.audit.log import AuditLog
from service_kit.database import Database, apply_schema
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry
from trigger_svc.batches.outcomes import BatchOutcomes
from trigger_svc.bridge.airflow import Airflow
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.bridge.bridge import Bridge
from trigger_svc.dataset.batch_requests import BatchRequests
from trigger_svc.dataset.model_gate import ModelGate
from trigger_svc.dataset.model_registration import ModelRegistration
from trigger_svc.dataset.training_rows import TrainingRows
from trigger_svc.servicer import DataServicer, ModelRowsServicer
from trigger_svc.settings import TriggerSettings

CALLERS_THREADS = 8
# Of these, the calls about one model take two at most; sixteen more wait, for 10 s at most.
CALLS_OF_A_MODEL = 2
WAITING_CALLS = 16
CALLERS_WAIT_S = 10.0
IMPORT_THREADS = 4
BRIDGE_THREADS = 4
_SQL = Path(str(resources.files("trigger_svc.database") / "sql"))
SCHEMA = (_SQL / "schema.sql", _SQL / "outbox_triggers.sql")


class TriggerService:
    """A service_kit.server.Service. Tests pass an `airflow` of their own."""

    names: Sequence[str] = ("mesh.v1.DataService", "mesh.v1.ModelRowsService")

    def __init__(self, settings: TriggerSettings, airflow: Airflow | None = None) -> None:
        self._settings = settings
        url = settings.database_url
        self._database = Database(url, "mesh-trigger", CALLERS_THREADS, cancels=True)
        self.audit = AuditLog(url, "mesh-trigger")
        self._imports = Database(url, "mesh-trigger-imports", IMPORT_THREADS, cancels=True)
        # Threads and connections that callers' slow questions cannot take from the bridge.
        self._bridge_database = Database(url, "mesh-bridge-batches", BRIDGE_THREADS)
        self._registry = Registry(settings.mlflow_url, auth=MlflowToken.of(settings))
        self._airflow = airflow or HttpAirflow(settings)
        self._registration = ModelRegistration(self._database, self._registry)
        self._bridge = Bridge(self._bridge_database, self._airflow, settings)
        self._tasks: list[asyncio.Task[None]] = []

    def register(self, server: aio.Server) -> None:
        """Add DataService and ModelRowsService to `server`."""
        gate = ModelGate(CALLS_OF_A_MODEL, WAITING_CALLS, CALLERS_WAIT_S)
        rows = TrainingRows(self._database, self._imports, gate)
        servicer = DataServicer(
            rows,
            BatchRequests(self._database, gate),
            BatchOutcomes(self._database, self._registry),
            self._settings.state_dir,
            self._settings.import_max_bytes,
            self._settings.imports_max_bytes,
            on_import=self._registration.wake,
        )
        data_pb2_grpc.add_DataServiceServicer_to_server(servicer, server)
        model_rows_pb2_grpc.add_ModelRowsServiceServicer_to_server(ModelRowsServicer(rows), server)

    async def startup(self) -> None:
        """Create the tables, waiting for PostgreSQL, and start the bridge."""
        if self._settings.state_dir is not None:
            self._settings.state_dir.mkdir(parents=True, exist_ok=True)
        await apply_schema(self._database, "trigger", *SCHEMA, AUDIT)
        self._tasks = [
            asyncio.create_task(self._bridge.run(), name="bridge"),
            asyncio.create_task(self._registration.run(), name="registration"),
            asyncio.create_task(keep_clean(self._bridge_database), name="cleaning of the audit"),
        ]

    async def shutdown(self) -> None:
        """Stop the bridge, so that another one can follow at once, and close the connections."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._airflow.close()
        await self._registry.close()
        await self._bridge_database.close()
        await self._imports.close()
        await self._database.close()
