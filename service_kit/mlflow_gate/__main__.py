"""Starts MLflow's server behind the gate: `python -m service_kit.mlflow_gate OPTIONS`.

`mlflow server` starts the same application in a process of its own, and takes none around it but
that of an installed package.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from service_kit.mlflow_gate.browsers import Browsers
from service_kit.mlflow_gate.gate import Gate
from service_kit.mlflow_gate.locations import Places
from service_kit.mlflow_gate.tokens import TokenCheck

ALL_HOSTS = "*"
# The words that the control plane's setting of the same meaning takes.
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
LOG_CONFIG = "uvicorn_log_config.yaml"
# Seconds for which requests under way may go on after SIGTERM.
STOP_WAIT_S = 10


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line. Raises SystemExit for a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m service_kit.mlflow_gate", description="MLflow's server behind tokens."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-keys", type=Path, required=True, help="public keys (JWKS)")
    parser.add_argument("--revoked-tokens", type=Path, help="the control plane's list of ids")
    parser.add_argument(
        "--open-reads",
        type=_boolean,
        metavar="BOOL",
        help="whether reading needs no token; empty: only if --published-on is loopback",
    )
    parser.add_argument("--published-on", default="", help="address at which clients find MLflow")
    parser.add_argument(
        "--read-token",
        type=Path,
        help="file with the token with which MLflow reads from the server of --artifact-root",
    )
    parser.add_argument(
        "--host-names",
        type=_names,
        default=(),
        metavar="NAME,…",
        help="further names by which browsers may reach MLflow; *: any",
    )
    parser.add_argument("--backend-store-uri", default="", help="database, for SQLAlchemy")
    parser.add_argument("--artifacts-destination", default="", help="where files lie")
    parser.add_argument(
        "--artifact-root", default="", help="URL of another server that has the files"
    )
    chosen = parser.parse_args(arguments)
    if chosen.open_reads is None:
        chosen.open_reads = _on_loopback(chosen.published_on or chosen.host)
    if not chosen.backend_store_uri and not chosen.artifacts_destination:
        parser.error("give --backend-store-uri, --artifacts-destination or both")
    return chosen


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    chosen = parsed(arguments)
    # MLflow reads settings while it is imported.
    _configure(chosen)
    import uvicorn
    from mlflow.server.fastapi_app import app

    if chosen.backend_store_uri:
        from mlflow.server.handlers import initialize_backend_stores

        # Makes or upgrades the tables, once, before the first request.
        initialize_backend_stores(
            chosen.backend_store_uri, chosen.backend_store_uri, _artifact_root(chosen)
        )
    log_config = Path(str(sys.modules["mlflow.server"].__file__)).with_name(LOG_CONFIG)
    gate = Gate(
        app,
        TokenCheck(chosen.token_keys, chosen.revoked_tokens),
        Places(chosen.artifact_root),
        Browsers(chosen.host_names, chosen.open_reads),
        chosen.open_reads,
    )
    uvicorn.run(
        gate,
        host=chosen.host,
        port=chosen.port,
        log_config=str(log_config),
        server_header=False,
        timeout_graceful_shutdown=STOP_WAIT_S,
    )
    return 0


def _configure(chosen: argparse.Namespace) -> None:
    """Set what `mlflow server` sets for the process that it starts."""
    os.environ |= {
        # The gate checks hosts and origins, and does so for reading requests too.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ALL_HOSTS,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    from mlflow.server import constants

    if chosen.read_token:
        os.environ["MLFLOW_TRACKING_TOKEN"] = chosen.read_token.read_text().strip()
    if chosen.backend_store_uri:
        os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = chosen.backend_store_uri
        os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = chosen.backend_store_uri
        os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = _artifact_root(chosen)
    else:
        os.environ[constants.ARTIFACTS_ONLY_ENV_VAR] = "true"
    if chosen.artifacts_destination:
        os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
        os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = chosen.artifacts_destination


def _artifact_root(chosen: argparse.Namespace) -> str:
    return str(chosen.artifact_root) or "mlflow-artifacts:/"


def _on_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _boolean(text: str) -> bool | None:
    if not text:
        return None
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in _TRUE


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
