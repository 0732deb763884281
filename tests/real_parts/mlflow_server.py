"""A real MLflow server for tests: `with running_mlflow(folder) as url: …`."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.real_parts.postgres import free_port

# A start imports many libraries and migrates the database, which takes 8 s on an idle machine.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


@contextmanager
def running_mlflow(folder: Path, port: int = 0) -> Iterator[str]:
    """Run a tracking server, registry and artifact store with their data in `folder`.

    Anybody may write to it: it asks for no token. The data stay in the folder, so a test can start
    the server again with the same folder and port.
    """
    with _running(
        folder,
        port or free_port(),
        *("mlflow", "server", "--workers", "1", "--serve-artifacts"),
    ) as url:
        yield url


@contextmanager
def guarded_mlflow(
    folder: Path, token_keys: Path, *options: str, open_reads: bool = True
) -> Iterator[str]:
    """Run MLflow behind its gate, as the mesh does; `options` are further ones of the gate."""
    with _running(
        folder,
        free_port(),
        *("service_kit.mlflow_gate", "--token-keys", str(token_keys)),
        *("--open-reads", str(open_reads), *options),
    ) as url:
        yield url


@contextmanager
def _running(folder: Path, port: int, *module: str) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", *module, "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "mlflow.log").open("ab") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait_until_ready(server, url, folder / "mlflow.log")
        yield url
    finally:
        _stop(server)


async def create_versions(url: str, model: str, count: int) -> list[str]:
    """Register `count` more versions of a model, without files; return their numbers."""
    created = []
    async with httpx.AsyncClient(base_url=f"{url}/api/2.0/mlflow") as http:
        for _ in range(count):
            # No two versions have the same source, as in a real registry.
            body = {"name": model, "source": f"s3://nowhere/{uuid.uuid4().hex}"}
            answer = (await http.post("/model-versions/create", json=body)).raise_for_status()
            created.append(str(answer.json()["model_version"]["version"]))
    return created


async def forget_models(url: str) -> None:
    """Delete all models that earlier tests registered.

    A control plane would bring every one of them to its replicas.
    """
    async with httpx.AsyncClient(base_url=f"{url}/api/2.0/mlflow") as http:
        listed = (await http.get("/registered-models/search", params={"max_results": 1000})).json()
        for model in listed.get("registered_models", ()):
            body = {"name": model["name"]}
            answer = await http.request("DELETE", "/registered-models/delete", json=body)
            answer.raise_for_status()


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Stop the command and the uvicorn that it started."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(STOP_TIMEOUT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"MLflow did not start: {log.read_text()}")
        time.sleep(0.1)
