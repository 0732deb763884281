"""The service of one replica: puts its parts together and runs them from startup to shutdown."""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from grpc import aio
from prometheus_client import REGISTRY

from inference import open_inference_pb2_grpc
from inference_svc.batching.batcher import Batcher
from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.text_queue import TextQueue
from inference_svc.doors.oip.grpc_servicer import OpenInferenceServicer
from inference_svc.doors.oip.protocol import OpenInference
from inference_svc.doors.predict_servicer import PredictServicer
from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.engines.base import Engine
from inference_svc.methods_over_http1 import unary_server
from inference_svc.serving.memory_release import MemoryRelease
from inference_svc.serving.replica import Replica
from inference_svc.serving.restorer import Restorer
from inference_svc.serving.slot_collector import SlotCollector
from inference_svc.serving.slots import Slots
from inference_svc.serving.trouble import PastTroubles, Trouble
from inference_svc.serving.unserved_models import UnservedModels
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.serving.watchdog import Watchdog
from inference_svc.serving.withdrawals import Withdrawals
from inference_svc.settings import InferenceSettings
from inference_svc.versions.cache import ModelCache, ModelSource
from inference_svc.versions.golden_check import check_still_works
from inference_svc.versions.memory_room import MemoryRoom
from inference_svc.versions.preparer import Preparer
from inference_svc.versions.remembered_versions import RememberedVersions
from inference_svc.versions.thread_priority import background_executor
from mesh.v1 import predict_pb2_grpc, replica_pb2_grpc
from service_kit.identities.identity import Identity
from service_kit.signing.keys import TrustedKeys

if TYPE_CHECKING:
    from inference_svc.doors.oip.http_door import OpenInferenceHttp
    from service_kit.unary_over_http1.server import UnaryServer

log = logging.getLogger(__name__)


class InferenceService:
    """See service_kit.server.Service."""

    names: Sequence[str] = (
        "mesh.v1.PredictService",
        "mesh.v1.ReplicaService",
        "inference.GRPCInferenceService",
    )

    def __init__(
        self,
        settings: InferenceSettings,
        engine: Engine,
        open_source: Callable[[], ModelSource],
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        """`open_source` opens the registry: once for questions, and once for each download.

        `end_process` ends the process with an exit code, without waiting for its threads.
        Raises OSError when the state folder cannot be written.
        """
        self._source = source = open_source()
        cache = ModelCache(
            settings.state_dir / "models", settings.keep_versions, _keys(settings.model_keys)
        )
        cache.open()
        remembered = RememberedVersions(settings.state_dir / "serving.json")
        limits = BatchLimits(
            settings.max_batch_tokens or engine.batch_tokens, settings.max_batch_texts
        )
        self._batcher = Batcher(
            TextQueue(settings.max_queue_texts, limits),
            lambda: engine.enter_thread(computes=True),
            check_still_works,
        )
        self._background = background_executor("prepare")
        self._memory_release = MemoryRelease(engine, self._background)
        freed = self._memory_release.schedule
        preparer = Preparer(cache, engine, open_source, MemoryRoom(settings.memory_limit_mib))
        self._upcoming = UpcomingVersions(preparer, self._background, freed)
        self._replica = Replica(
            Slots(freed),
            self._upcoming,
            self._batcher,
            source,
            UnservedModels(source, settings.lookup_timeout_s),
            cache,
            remembered,
        )
        past = PastTroubles(settings.state_dir / "troubles.json")
        self._trouble = Trouble(past, self._withdraw, end_process)
        declare = self._trouble.declare
        self._withdrawals = Withdrawals(
            self._replica.slots, self._upcoming, self._batcher, engine, declare
        )
        self._batcher.model_failed = self._withdrawals.model_failed
        self._replica.suspect_engine = self._withdrawals.suspect_engine
        looks = settings.batch_timeout_s
        self._watchdog = Watchdog(self._batcher, self._upcoming, looks, declare)
        self._restorer = Restorer(self._replica, source, remembered, _keys(settings.record_keys))
        self._tasks: list[asyncio.Task[None]] = []
        self._predict = PredictServicer(
            self._replica, settings.replica_id, settings.max_stream_requests
        )
        self._collector = SlotCollector(self._replica.slots)
        self._registered = ExitStack()
        self._steering = ReplicaServicer(
            self._replica,
            settings.replica_id,
            engine.device,
            http_port=settings.http_port,
            unary_port=settings.unary_port,
        )
        self._inference = OpenInference(self._replica, settings.replica_id)
        self._open_inference = OpenInferenceServicer(self._inference)
        self._http: OpenInferenceHttp | None = None
        self._unary: UnaryServer | None = None
        self._settings = settings
        self.stop_serving: Callable[[], Awaitable[None]] = self._no_server

    def register(self, server: aio.Server) -> None:
        """See Service."""
        predict_pb2_grpc.add_PredictServiceServicer_to_server(self._predict, server)
        replica_pb2_grpc.add_ReplicaServiceServicer_to_server(self._steering, server)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            self._open_inference, server
        )

    async def startup(self) -> None:
        """Load the versions that the fleet serves; those that fail are tried again later."""
        self._batcher.start()
        REGISTRY.register(self._collector)
        self._registered.callback(REGISTRY.unregister, self._collector)
        self._tasks.append(asyncio.create_task(self._watchdog.run()))
        try:
            await self._listen()
            # Modules imported by now stay for good: the garbage collector need not look at them
            # whenever it collects a dropped model.
            gc.freeze()
            restoring = asyncio.create_task(self._restore())
            self._tasks.append(restoring)
            await asyncio.wait((restoring,), timeout=self._settings.restore_timeout_s)
            if restoring.done():
                restoring.result()
            else:
                log.error("some models are not loaded yet; serving those that are")
        except BaseException:
            await self.shutdown()
            raise
        if self._trouble.why:
            return
        self._memory_release.start()
        self._inference.ready = True
        if self._unary is not None:
            self._unary.serving = True

    async def _restore(self) -> None:
        """Load what the fleet serves, then try again what could not be loaded."""
        # No traffic needs the processor yet, so this thread keeps its normal priority.
        executor = ThreadPoolExecutor(1, thread_name_prefix="restore")
        try:
            await self._restorer.restore(executor)
        finally:
            executor.shutdown(wait=False)
        self._tasks.append(asyncio.create_task(self._restorer.follow()))

    async def _withdraw(self, why: str) -> None:
        """Answer nothing any more, and tell Envoy and the control plane so; see Trouble."""
        self._replica.trouble = why
        self._inference.ready = False
        if self._unary is not None:
            self._unary.serving = False
        self._batcher.end_jobs(
            self._batcher.queue.refuse_all(f"this replica cannot compute: {why}")
        )
        await self.stop_serving()
        self._predict.end_streams()

    async def drain(self) -> None:
        """Have each stream answer the requests it has read, and end; see service_kit Drains."""
        self._steering.draining = True
        self._inference.ready = False
        self._predict.end_streams()
        await self._close_listeners()

    async def shutdown(self) -> None:
        """See Service."""
        await self._close_listeners()
        for task in self._tasks:
            task.cancel()
        if self._trouble.why:
            # What hangs would keep the process from its end.
            self._trouble.end_now()
        self._withdrawals.close()
        self._upcoming.close()
        self._memory_release.close()
        self._registered.close()
        await self._replica.comparisons.close()
        await asyncio.to_thread(self._background.shutdown, cancel_futures=True)
        await self._batcher.close()
        await self._source.close()

    async def _no_server(self) -> None:
        """Stands for GrpcServer's answer to health checks until there is one."""

    async def _listen(self) -> None:
        """Open the ports that the settings name beside the gRPC port."""
        settings = self._settings
        identity = Identity.of(settings.identity_folder)
        if settings.unary_port:
            self._unary = unary_server(self._predict, self._open_inference)
            self._unary.slow_calls.progressed = self._batcher.progressed
            await self._unary.listen(settings.host, settings.unary_port, identity)
        if settings.http_port:
            # Importing this takes a third of a second, which a replica without this door saves.
            from inference_svc.doors.oip.http_door import OpenInferenceHttp

            self._http = OpenInferenceHttp(self._inference, settings.grace_seconds)
            await self._http.listen(settings.host, settings.http_port, identity)

    async def _close_listeners(self) -> None:
        closing = []
        if self._unary is not None:
            closing.append(self._unary.close(self._settings.grace_seconds))
        if self._http is not None:
            closing.append(self._http.close())
        await asyncio.gather(*closing)


def _keys(file: Path | None) -> TrustedKeys | None:
    return TrustedKeys(file) if file else None
