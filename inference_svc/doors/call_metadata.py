"""Reads a call's metadata: its deadline, and how Envoy routed it."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from inference_svc.metrics.key_buckets import key_bucket
from inference_svc.serving.slots import CHAMPION, ROLES
from service_kit.errors import InvalidArgument
from service_kit.interceptor import Context

ROLE_HEADER = "x-mesh-role"
# Set by callers; Envoy sends requests with equal keys to one version.
KEY_HEADER = "x-mesh-key"
# Set by Envoy on the copy of a request whose answer it throws away.
MIRROR_HEADER = "x-mesh-mirror"


class Routing(NamedTuple):
    """How Envoy routed a call."""

    role: str
    """Role of the slot that is to answer the call."""
    mirrored: bool
    """Envoy throws the answer away."""
    bucket: int | None
    """Key bucket (see metrics.key_buckets); None: no split of Envoy dealt the call or copied it."""


def routing(context: Context) -> Routing:
    """Return how Envoy routed a call; call it once, since gRPC rebuilds the metadata each time.

    Raises InvalidArgument for a role that does not exist.
    """
    return routing_in(dict(context.invocation_metadata() or ()))


def routing_in(metadata: Mapping[str, str | bytes]) -> Routing:
    """Return how Envoy routed a call with this metadata, or these headers of HTTP.

    Raises InvalidArgument for a role that does not exist.
    """
    chosen = metadata.get(ROLE_HEADER)
    role = CHAMPION if chosen is None else str(chosen)
    if role not in ROLES:
        raise InvalidArgument(ROLE_HEADER, f"is one of {', '.join(ROLES)}")
    # Only the routes of a split set the role.
    bucket = None if chosen is None else key_bucket(metadata.get(KEY_HEADER))
    return Routing(role, MIRROR_HEADER in metadata, bucket)


def deadline(context: Context) -> float | None:
    """Time at which the caller stops waiting, in seconds of time.monotonic; None: never."""
    left_s = context.time_remaining()
    return None if left_s is None else time.monotonic() + left_s
