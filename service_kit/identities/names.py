"""The names of the mesh's parts in their certificates.

A certificate has the part's SPIFFE id, which servers and Envoy check, and a DNS name, which gRPC
clients check: they can check no other kind of name.
"""

from collections.abc import Iterable

TRUST_DOMAIN = "champion-mesh"
ENVOY = "envoy"
CONTROL_PLANE = "control-plane"
INFERENCE = "inference"
TRAINING = "training"
TRIGGER = "trigger"
PARTS = (ENVOY, CONTROL_PLANE, INFERENCE, TRAINING, TRIGGER)

_PREFIX = f"spiffe://{TRUST_DOMAIN}/"


def spiffe_id(part: str) -> str:
    """Return the SPIFFE id of a part."""
    return _PREFIX + part


def server_name(part: str) -> str:
    """Return the DNS name of a part in its certificate; no name server knows it."""
    return f"{part}.{TRUST_DOMAIN}"


def part_of(uris: Iterable[str]) -> str:
    """Return the part that the URIs of a certificate name; "" when they name none of this mesh.

    SPIFFE asks for exactly one URI.
    """
    listed = list(uris)
    if len(listed) != 1 or not listed[0].startswith(_PREFIX):
        return ""
    return listed[0].removeprefix(_PREFIX)
