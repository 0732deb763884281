"""What comes with a call beside its message: its deadline, and what Envoy decided about it."""

import time

from inference_svc.slots import CHAMPION, ROLES
from service_kit.errors import InvalidArgument
from service_kit.interceptor import Context

ROLE_HEADER = "x-mesh-role"
# Set by Envoy on the copy of a request whose answer it throws away.
MIRROR_HEADER = "x-mesh-mirror"


def role(context: Context) -> str:
    """Role of the slot that is to answer. Raises InvalidArgument for one that does not exist."""
    for key, value in context.invocation_metadata() or ():
        if key == ROLE_HEADER:
            if value not in ROLES:
                raise InvalidArgument(ROLE_HEADER, f"is one of {', '.join(ROLES)}")
            return str(value)
    return CHAMPION


def is_mirrored(context: Context) -> bool:
    """Whether nobody reads the answer."""
    return any(key == MIRROR_HEADER for key, _ in context.invocation_metadata() or ())


def deadline(context: Context) -> float | None:
    """When the caller stops waiting, in seconds of time.monotonic; None: never."""
    left_s = context.time_remaining()
    return None if left_s is None else time.monotonic() + left_s
