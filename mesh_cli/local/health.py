"""Health checks of the parts. A check returns why a part is not healthy, or an empty text."""

from collections.abc import Callable

import grpc
import httpx
import psycopg2
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 2.0

Check = Callable[[], str]


def postgres(url: str) -> Check:
    """PostgreSQL accepts a connection."""

    def check() -> str:
        try:
            connection = psycopg2.connect(url, connect_timeout=int(TIMEOUT_S))
            connection.close()
        except psycopg2.OperationalError as error:
            return str(error).strip().splitlines()[-1]
        return ""

    return check


def http(url: str) -> Check:
    """A GET request gets the status 200."""

    def check() -> str:
        try:
            response = httpx.get(url, timeout=TIMEOUT_S, trust_env=False)
        except httpx.HTTPError as error:
            return _why(error)
        if response.status_code == httpx.codes.OK:
            return ""
        return f"answers {response.status_code}: {response.text.strip()[:100]}"

    return check


def grpc_health(address: str) -> Check:
    """The gRPC health service says SERVING."""

    def check() -> str:
        with grpc.insecure_channel(address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                    health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
                )
            except grpc.RpcError as error:
                return error.details() or "does not answer"
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        return "is starting or shutting down"

    return check


def running() -> str:
    """A part without an interface is healthy while its process runs."""
    return ""


# Airflow's names of its parts in its health document.
_AIRFLOW_KEYS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
}


def airflow(url: str, part: str) -> Check:
    """Airflow's health document calls the part healthy."""

    def check() -> str:
        try:
            # The status is 200 even when a part is not healthy.
            document = httpx.get(
                f"{url}/api/v2/monitor/health", timeout=TIMEOUT_S, trust_env=False
            ).json()
        except (httpx.HTTPError, ValueError) as error:
            return f"Airflow's API does not answer: {_why(error)}"
        status = (document.get(_AIRFLOW_KEYS[part]) or {}).get("status")
        return "" if status == "healthy" else f"Airflow calls it {status or 'unknown'}"

    return check


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
