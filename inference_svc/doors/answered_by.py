"""Tells Envoy's access log which version answered: in trailers over gRPC, in headers over HTTP.

gRPC sends trailers together with the status, so they cost a call no message of their own.
"""

from functools import lru_cache

from inference_svc.serving.slots import ServedVersion, SlotKey

REMEMBERED = 256


def answered_by(served: ServedVersion, replica: str) -> tuple[tuple[str, str], ...]:
    """Names and values of the headers: model, version, alias and replica."""
    return _headers(served.slot, served.version, replica)


@lru_cache(maxsize=REMEMBERED)
def _headers(slot: SlotKey, version: str, replica: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-mesh-model", slot.model),
        ("x-mesh-version", version),
        ("x-mesh-alias", slot.alias),
        ("x-mesh-replica", replica),
    )
