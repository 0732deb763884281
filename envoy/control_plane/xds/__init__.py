"""Envoy's configuration. Only this folder imports envoy-data-plane, which is heavy and brings a
google.protobuf of its own. `xds.bootstrap` makes the file that Envoy starts from."""

from control_plane.xds.basics.lean_messages import lean_messages

with lean_messages():
    from control_plane.xds.build import build_snapshot
    from control_plane.xds.stream.server import DiscoveryServer
    from control_plane.xds.stream.snapshot import InconsistentSnapshot, Snapshot

__all__ = ["DiscoveryServer", "InconsistentSnapshot", "Snapshot", "build_snapshot"]
