"""The service of one replica: puts its parts together and runs them from startup to shutdown."""

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
from inference_svc.serving.unserved_models import UnservedModels
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.settings import InferenceSettings
from inference_svc.versions.cache import ModelCache, ModelSource
from inference_svc.versions.memory_room import MemoryRoom
from inference_svc.versions.preparer import Preparer
from inference_svc.versions.remembered_versions import RememberedVersions
from inference_svc.versions.thread_priority import background_executor
from mesh.v1 import predict_pb2_grpc, replica_pb2_grpc

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
    ) -> None:
        """`open_source` opens the registry: once for questions, and once for each download.

        Raises OSError when the state folder cannot be written.
        """
        self._source = source = open_source()
        cache = ModelCache(settings.state_dir / "models", settings.keep_versions)
        cache.open()
        remembered = RememberedVersions(settings.state_dir / "serving.json")
        limits = BatchLimits(
            settings.max_batch_tokens or engine.batch_tokens, settings.max_batch_texts
        )
        self._batcher = Batcher(
            TextQueue(settings.max_queue_texts, limits),
            lambda: engine.enter_thread(computes=True),
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
            UnservedModels(source, settings.lookup_timeout_s),
            cache,
            remembered,
        )
        self._restorer = Restorer(self._replica, source, remembered)
        self._following: asyncio.Task[None] | None = None
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
        # No traffic needs the processor yet, so this thread keeps its normal priority.
        executor = ThreadPoolExecutor(1, thread_name_prefix="restore")
        try:
            await self._listen()
            # Modules imported by now stay for good: the garbage collector need not look at them
            # whenever it collects a dropped model.
            gc.freeze()
            await self._restorer.restore(executor)
        except BaseException:
            await self.shutdown()
            raise
        finally:
            executor.shutdown(wait=False)
        self._following = asyncio.create_task(self._restorer.follow())
        self._memory_release.start()
        self._inference.ready = True
        if self._unary is not None:
            self._unary.serving = True

    async def drain(self) -> None:
        """Have each stream answer the requests it has read, and end; see service_kit Drains."""
        self._steering.draining = True
        self._inference.ready = False
        self._predict.end_streams()
        await self._close_listeners()

    async def shutdown(self) -> None:
        """See Service."""
        await self._close_listeners()
        if self._following is not None:
            self._following.cancel()
        self._upcoming.close()
        self._memory_release.close()
        self._registered.close()
        await self._replica.comparisons.close()
        await asyncio.to_thread(self._background.shutdown, cancel_futures=True)
        await self._batcher.close()
        await self._source.close()

    async def _listen(self) -> None:
        """Open the ports that the settings name beside the gRPC port."""
        settings = self._settings
        if settings.unary_port:
            self._unary = unary_server(self._predict, self._open_inference)
            await self._unary.listen(settings.host, settings.unary_port)
        if settings.http_port:
            # Importing this takes a third of a second, which a replica without this door saves.
            from inference_svc.doors.oip.http_door import OpenInferenceHttp

            self._http = OpenInferenceHttp(self._inference, settings.grace_seconds)
            await self._http.listen(settings.host, settings.http_port)

    async def _close_listeners(self) -> None:
        closing = []
        if self._unary is not None:
            closing.append(self._unary.close(self._settings.grace_seconds))
        if self._http is not None:
            closing.append(self._http.close())
        await asyncio.gather(*closing)
