"""`python -m service_kit.probe HOST:PORT`: exits with 0 when the gRPC server there is serving.

The containers of the services use it as their health check. Where the part has an identity, in the
folder MESH_IDENTITY_FOLDER, the probe shows it and expects the same of the server.
"""

import os
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service_kit.identities.grpc_tls import probe_channel
from service_kit.identities.identity import BadIdentity, Identity

TIMEOUT_S = 3.0


def is_serving(address: str, identity: Identity | None = None) -> bool:
    """Return whether the server at `address` (host:port) says SERVING within TIMEOUT_S seconds."""
    with probe_channel(address, identity) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    folder = os.environ.get("MESH_IDENTITY_FOLDER")
    try:
        own = Identity.of(Path(folder) if folder else None)
    except BadIdentity as error:
        sys.exit(str(error))
    sys.exit(0 if is_serving(sys.argv[1], own) else 1)
