"""Replicas behind a real Envoy with its real configuration, without the rest of the mesh.

The replicas start from their cache, as they do while MLflow is away. They see the INFERENCE_…
variables of the caller.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.kit.model import MODEL
from bench.kit.server_process import ServerProcess
from inference_svc.versions.cache import ModelCache
from inference_svc.versions.identity import VersionInfo
from inference_svc.versions.remembered_versions import RememberedVersions
from mesh_cli.local.health import grpc_health
from mesh_cli.local.parts import envoy_workers
from mesh_cli.local.ports import internal_ports

VERSION = "1"
# Nothing listens here.
NOBODY = "127.0.0.1:1"


@dataclass(frozen=True)
class Fleet:
    """Running replicas and their Envoy, and their addresses."""

    address: str
    envoy: ServerProcess
    replicas: list[ServerProcess]
    replica_addresses: list[str]
    unary_addresses: list[str]
    """Where each replica takes unary calls over HTTP/1.1."""
    metrics_urls: list[str]
    """Prometheus metrics of each replica."""

    def metric(self, name: str) -> float:
        """Sum of a metric without labels over the replicas, for example `mesh_batch_texts_sum`."""
        return sum(_metric(url, name) for url in self.metrics_urls)

    @property
    def servers(self) -> list[ServerProcess]:
        """Envoy and the replicas."""
        return [self.envoy, *self.replicas]


@contextmanager
def running_fleet(
    folder: Path,
    model: Path,
    replicas: int = 2,
    other_parts: str = NOBODY,
    token_keys: Path | None = None,
) -> Iterator[Fleet]:
    """Serve the version in `model` by `replicas` replicas; their state and logs go to `folder`.

    `other_parts` is where all other services answer. With `token_keys`, a file of public keys,
    Envoy checks tokens, and predictions need none, as in a mesh on loopback.
    """
    names = [f"replica-{number}" for number in range(1, replicas + 1)]
    metrics = [f"{name}-metrics" for name in names]
    unary = [f"{name}-unary" for name in names]
    ports = internal_ports([*names, *metrics, *unary, "envoy", "admin"], {})
    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    addresses = [at[name] for name in names]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                _replica(folder / name, name, model, (ports[name], ports[calls], ports[metric]))
            )
            for name, calls, metric in zip(names, unary, metrics, strict=True)
        ]
        envoy = stack.enter_context(
            _envoy(
                folder / "envoy",
                addresses,
                [at[name] for name in unary],
                ports["envoy"],
                ports["admin"],
                *(f"--{part}={other_parts}" for part in ("training", "trigger", "control-plane")),
                *([f"--token-keys={token_keys}"] if token_keys else []),
            )
        )
        yield Fleet(
            at["envoy"],
            envoy,
            running,
            addresses,
            [at[name] for name in unary],
            [f"http://{at[name]}/metrics" for name in metrics],
        )


def _metric(url: str, name: str) -> float:
    text = httpx.get(url, timeout=5, trust_env=False).raise_for_status().text
    families = text_string_to_metric_families(text)
    return sum(one.value for family in families for one in family.samples if one.name == name)


def _replica(folder: Path, name: str, model: Path, ports: tuple[int, int, int]) -> ServerProcess:
    shutil.rmtree(folder, ignore_errors=True)
    put_version(folder, MODEL, model)
    return replica_process(folder, name, [MODEL], ports)


def _info(name: str) -> VersionInfo:
    return VersionInfo(name, VERSION, run_id="bench", batch_id="bench", source=f"bench/{name}")


def put_version(folder: Path, name: str, files: Path) -> Path:
    """Copy a version's files into the cache of the replica whose state is in `folder`.

    Returns the folder of the copy.
    """
    info = _info(name)
    version = ModelCache(folder / "models", keep_versions=1).folder(name, info.id)
    shutil.copytree(files, version)
    (version / "mesh-version.json").write_text(json.dumps(asdict(info)))
    return version


def replica_process(
    folder: Path, name: str, models: Sequence[str], ports: tuple[int, int, int]
) -> ServerProcess:
    """A replica that serves these models, which are in its cache.

    `ports` are those of gRPC, of unary calls over HTTP/1.1, and of its metrics.
    """
    port, unary_port, metrics_port = ports
    serving = {name: _info(name).id for name in models}
    RememberedVersions(folder / "serving.json").write(serving)
    environment = {
        "INFERENCE_PORT": str(port),
        "INFERENCE_UNARY_PORT": str(unary_port),
        "INFERENCE_METRICS_PORT": str(metrics_port),
        "INFERENCE_REPLICA_ID": name,
        "INFERENCE_STATE_DIR": str(folder),
        "INFERENCE_MLFLOW_URL": f"http://{NOBODY}",
    }
    command = [sys.executable, "-m", "inference_svc.main"]
    problem = grpc_health(f"127.0.0.1:{port}")
    return ServerProcess(name, command, lambda: not problem(), folder / "log", environment)


def _envoy(
    folder: Path,
    replicas: list[str],
    unary: list[str],
    port: int,
    admin_port: int,
    *options: str,
) -> ServerProcess:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "envoy.pb"
    render = [
        *(sys.executable, "-m", "control_plane.render", "static", f"--out={config}"),
        *(f"--port={port}", f"--admin-port={admin_port}"),
        *(f"--replica={address}" for address in replicas),
        *(f"--replica-unary={address}" for address in unary),
        *options,
    ]
    # In a child process: the renderer takes a second to import and keeps 60 MB.
    subprocess.run(render, check=True)
    # `mesh up` starts Envoy with the same options.
    command = [
        *(str(Path(sys.executable).parent / "envoy"), "-c", str(config)),
        *("--disable-hot-restart", "--log-level", "warning"),
        *("--concurrency", str(envoy_workers())),
    ]
    return ServerProcess(
        "envoy", command, _all_healthy(admin_port, len(replicas)), folder / "envoy.log"
    )


def _all_healthy(admin_port: int, replicas: int) -> Callable[[], bool]:
    url = f"http://127.0.0.1:{admin_port}/stats"
    http = httpx.Client(timeout=2, trust_env=False, verify=False)
    name = "cluster.champion-unary.membership_healthy"

    def ready() -> bool:
        try:
            answer = http.get(url, params={"filter": f"^{name}$"})
        except httpx.HTTPError:
            return False
        return answer.text.strip() == f"{name}: {replicas}"

    return ready
