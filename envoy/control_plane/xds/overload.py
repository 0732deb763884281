"""What Envoy does before it runs out of memory or connections."""

from datetime import timedelta

from control_plane.xds.basics.lean_messages import lean_messages

with lean_messages():
    from envoy_data_plane.envoy.config.overload.v3 import (
        BufferFactoryConfig,
        OverloadAction,
        OverloadManager,
        ResourceMonitor,
        ScaledTrigger,
        ThresholdTrigger,
        Trigger,
    )
    from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
        DownstreamConnectionsConfig,
    )
    from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
    from envoy_data_plane.google.protobuf import Any

# Memory that Envoy may take, bytes: what its container gets (512 MiB) less a quarter for what is
# not on the heap.
MAX_HEAP_BYTES = 384 * 1024 * 1024
_HEAP = "envoy.resource_monitors.fixed_heap"
# A bomb of bodies fills the memory within a second, so Envoy looks often. A look costs a few
# microseconds.
_LOOK_EVERY = timedelta(milliseconds=100)
# Parts of MAX_HEAP_BYTES. From the first on, Envoy resets the streams that hold most memory, which
# are those of the caller that fills it; the more, the nearer the heap comes to the second. Above
# the third it gives freed memory back, refuses new requests with 503 and takes no connections.
_RESET_FROM, _RESET_TO, _REFUSE_FROM = 0.60, 0.90, 0.95
# A stream's memory counts from 2 to the power of this on, bytes: 1 MiB.
_COUNTED_FROM = 20


def overload_manager(max_connections: int, max_heap_bytes: int = MAX_HEAP_BYTES) -> OverloadManager:
    """Return the limits of client connections and of the heap, and what happens near them."""
    return OverloadManager(
        refresh_interval=_LOOK_EVERY,
        resource_monitors=[
            _monitor(
                "envoy.resource_monitors.global_downstream_max_connections",
                Any.pack(
                    DownstreamConnectionsConfig(max_active_downstream_connections=max_connections)
                ),
            ),
            _monitor(_HEAP, Any.pack(FixedHeapConfig(max_heap_size_bytes=max_heap_bytes))),
        ],
        actions=[
            OverloadAction(
                name="envoy.overload_actions.reset_high_memory_stream",
                triggers=[
                    Trigger(
                        name=_HEAP,
                        scaled=ScaledTrigger(
                            scaling_threshold=_RESET_FROM, saturation_threshold=_RESET_TO
                        ),
                    )
                ],
            ),
            *(
                OverloadAction(
                    name=f"envoy.overload_actions.{name}",
                    triggers=[Trigger(name=_HEAP, threshold=ThresholdTrigger(value=_REFUSE_FROM))],
                )
                for name in ("shrink_heap", "stop_accepting_requests", "stop_accepting_connections")
            ),
        ],
        buffer_factory_config=BufferFactoryConfig(
            minimum_account_to_track_power_of_two=_COUNTED_FROM
        ),
    )


def _monitor(name: str, config: Any) -> ResourceMonitor:
    return ResourceMonitor(name=name, typed_config=config)
