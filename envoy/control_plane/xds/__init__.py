"""Envoy's configuration. Nothing outside this folder imports envoy-data-plane, which is heavy and
brings a google.protobuf of its own."""

from control_plane.xds.bootstrap import bootstrap
from control_plane.xds.build import build_snapshot
from control_plane.xds.snapshot import InconsistentSnapshot, Snapshot

__all__ = ["InconsistentSnapshot", "Snapshot", "bootstrap", "build_snapshot"]
