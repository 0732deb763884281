"""The peers, each with the settings that were best for it on two cores."""

import getpass
import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

from bench.peers.peer import FOLDER, Peer, Turn
from mesh_cli.local.ports import internal_ports

# Seconds that a peer waits for more texts before it computes a batch.
BATCH_WAIT_S = 0.005


def _litserve(turn: Turn) -> list[str | Path]:
    return [turn.bin("python"), turn.source / "server.py"]


def _bentoml(turn: Turn) -> list[str | Path]:
    return [
        *(turn.bin("bentoml"), "serve", "service:Texts", "--working-dir", turn.source),
        *("--host", "127.0.0.1", "--port", str(turn.port)),
    ]


def has_nginx() -> bool:
    """Whether nginx is installed: a package of the system, not of PyPI."""
    return shutil.which("nginx", path=_NGINX_PATH) is not None


_NGINX_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def _flask(turn: Turn) -> list[str | Path]:
    command: list[str | Path] = [
        *(turn.bin("uwsgi"), "--master", "--die-on-term", "--need-app", "--lazy-apps"),
        *("--processes", turn.environment["BENCH_WORKERS"], "--buffer-size", "32768"),
        *("--home", turn.venv, "--chdir", turn.source, "--module", "app:app"),
        *("--disable-logging", "--enable-threads"),
    ]
    nginx = shutil.which("nginx", path=_NGINX_PATH)
    if nginx is None:
        return [*command, "--http", f"127.0.0.1:{turn.port}", "--http-keepalive=60"]
    socket, config = turn.state / "uwsgi.sock", turn.state / "nginx.conf"
    filled = Template((FOLDER / "flask" / "nginx.conf").read_text()).safe_substitute(
        OWNER=getpass.getuser(), FOLDER=turn.state, PORT=turn.port, SOCKET=socket
    )
    config.write_text(filled)
    return [*command, "--socket", socket, "--attach-daemon", f"{nginx} -c {config}"]


def _mlserver(turn: Turn) -> list[str | Path]:
    batch = int(turn.environment["BENCH_BATCH"])
    model = {"name": "text", "implementation": "runtime.TextModel"}
    batching = {"max_batch_size": batch, "max_batch_time": BATCH_WAIT_S}
    (turn.state / "model-settings.json").write_text(json.dumps(model | batching))
    ports = internal_ports(["grpc", "metrics"], {}, taken=[turn.port])
    settings = {
        "host": "127.0.0.1",
        "http_port": turn.port,
        "grpc_port": ports["grpc"],
        "metrics_port": ports["metrics"],
        "parallel_workers": int(turn.environment["BENCH_WORKERS"]),
        "debug": False,
    }
    (turn.state / "settings.json").write_text(json.dumps(settings))
    return [turn.bin("mlserver"), "start", turn.state]


def _mlflow(turn: Turn) -> list[str | Path]:
    save = f"{turn.bin('python')} {turn.source / 'save.py'} {turn.state / 'model'}"
    serve = (
        f"exec {turn.bin('mlflow')} models serve --model-uri {turn.state / 'model'} "
        f"--env-manager local --host 127.0.0.1 --port {turn.port} "
        f"--workers {turn.environment['BENCH_WORKERS']}"
    )
    return ["sh", "-c", f"{save} && {serve}"]


def _ray(turn: Turn) -> list[str | Path]:
    return [turn.bin("python"), turn.source / "serve_text.py"]


def _text(text: str) -> dict[str, str]:
    return {"text": text}


def _label(answer: Any) -> str:
    return str(answer["label"])


PEERS = (
    Peer(
        name="litserve",
        title="LitServe",
        distribution="litserve",
        command=_litserve,
        path="/predict",
        body=_text,
        label=_label,
        settings="2 workers x 1 thread, batches of up to 16 within 5 ms",
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        distribution="bentoml",
        command=_bentoml,
        path="/predict",
        body=lambda text: {"texts": [text]},
        label=lambda answer: _label(answer[0]),
        settings="2 workers x 1 thread, adaptive batching up to 32",
        batch=32,
        variables={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        name="flask",
        title="Flask + uWSGI + nginx" if has_nginx() else "Flask + uWSGI (no nginx here)",
        distribution="flask",
        command=_flask,
        path="/predict",
        body=_text,
        label=_label,
        settings="2 workers x 1 thread, one text at a time"
        + ("" if has_nginx() else "; nginx is not installed, uWSGI's own HTTP router instead"),
        precisions=("fp32",),
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        distribution="mlserver",
        command=_mlserver,
        path="/v2/models/text/infer",
        body=lambda text: {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]
        },
        label=lambda answer: _label(json.loads(answer["outputs"][0]["data"][0])),
        settings="2 parallel workers x 1 thread, adaptive batching up to 16 within 5 ms",
        precisions=("fp32",),
    ),
    Peer(
        name="mlflow",
        title="mlflow models serve",
        distribution="mlflow",
        command=_mlflow,
        path="/invocations",
        body=lambda text: {"inputs": [text]},
        label=lambda answer: _label(answer["predictions"][0]),
        settings="2 workers x 1 thread, one text at a time: it has no batching",
        precisions=("fp32",),
        variables={"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        distribution="ray",
        command=_ray,
        path="/predict",
        body=_text,
        label=_label,
        settings="2 replicas x 1 thread, serve.batch up to 16 within 5 ms",
        precisions=("fp32",),
        variables={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
)
