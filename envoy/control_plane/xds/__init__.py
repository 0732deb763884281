"""Envoy's configuration. Nothing outside this folder imports envoy-data-plane, which is heavy and
brings a google.protobuf of its own. The file that Envoy starts from is made by `xds.bootstrap`."""

from control_plane.xds.basics.lean_messages import lean_messages

with lean_messages():
    from control_plane.xds.build import build_snapshot
    from control_plane.xds.stream.server import DiscoveryServer
    from control_plane.xds.stream.snapshot import InconsistentSnapshot, Snapshot

__all__ = ["DiscoveryServer", "InconsistentSnapshot", "Snapshot", "build_snapshot"]
