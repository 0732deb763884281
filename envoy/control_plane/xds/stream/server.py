"""The aggregated discovery service: sends the latest snapshot to every Envoy that is connected."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from grpc import aio
from prometheus_client import Counter, Gauge

from control_plane.xds.stream.resources import Encoder, Resources
from control_plane.xds.stream.snapshot import Snapshot
from control_plane.xds.stream.stream import AdsStream

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "StreamAggregatedResources"

STREAMS = Gauge("mesh_ads_streams", "Envoys that are connected to the control plane.")
REJECTIONS = Counter("mesh_ads_rejections", "Resources that an Envoy refused.")
SENT = Counter("mesh_ads_responses", "Responses sent to Envoys, by type.", ("type",))


class DiscoveryServer:
    """Publishes snapshots. All its methods run on the event loop."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._resources: Resources | None = None
        self._streams: dict[AdsStream, asyncio.Event] = {}
        self._answers = asyncio.Condition()
        self._closed = False

    def register(self, server: aio.Server) -> None:
        """Add the service to a server."""
        handler: Any = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DiscoveryRequest.parse,
            response_serializer=bytes,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    def publish(self, snapshot: Snapshot) -> None:
        """Send every Envoy the changes that this snapshot brings."""
        self._resources = self._encoder.encode(snapshot)
        self._wake()

    async def obstacle(self, timeout_s: float) -> str:
        """Wait until every connected Envoy, and at least one, has taken the published snapshot.

        Returns why that is not so, in words; empty: it is so.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._answers:
                await self._answers.wait_for(lambda: self._all_settled() or self._refused())
        if self._all_settled():
            return ""
        if not self._streams:
            return "no Envoy is connected to the control plane"
        if self._refused():
            return "an Envoy refused the configuration; the control plane's log says why"
        return f"an Envoy has not taken the configuration within {timeout_s:g} s"

    def close(self) -> None:
        """End the streams, which have no end of their own."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for wake in self._streams.values():
            wake.set()

    def _all_settled(self) -> bool:
        resources = self._resources
        return (
            resources is not None
            and bool(self._streams)
            and all(stream.settled(resources) for stream in self._streams)
        )

    def _refused(self) -> bool:
        resources = self._resources
        return resources is not None and any(stream.refused(resources) for stream in self._streams)

    async def _stream(
        self, requests: AsyncIterator[DiscoveryRequest], context: Any
    ) -> AsyncIterator[DiscoveryResponse]:
        stream, wake = AdsStream(), asyncio.Event()
        self._streams[stream] = wake
        STREAMS.set(len(self._streams))
        reader = asyncio.create_task(self._read(requests, stream, wake))
        try:
            while not (reader.done() or self._closed):
                await wake.wait()
                wake.clear()
                if self._resources is not None:
                    for response in stream.responses(self._resources):
                        SENT.labels(response.type_url.rpartition(".")[2]).inc()
                        yield response
        finally:
            reader.cancel()
            del self._streams[stream]
            STREAMS.set(len(self._streams))
            log.info("Envoy left", extra={"node": stream.node_id})
            await self._notify()

    async def _read(
        self, requests: AsyncIterator[DiscoveryRequest], stream: AdsStream, wake: asyncio.Event
    ) -> None:
        try:
            async for request in requests:
                if not stream.node_id and request.node:
                    log.info("Envoy joined", extra={"node": request.node.id})
                rejections = stream.rejections
                stream.take(request)
                REJECTIONS.inc(stream.rejections - rejections)
                await self._notify()
                wake.set()
        finally:
            wake.set()

    async def _notify(self) -> None:
        async with self._answers:
            self._answers.notify_all()
