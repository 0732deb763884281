"""Settings of an inference replica."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_kit.limits import MAX_TEXTS
from service_kit.settings import MlflowSettings


class InferenceSettings(MlflowSettings):
    """Read from `INFERENCE_…`."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_")

    replica_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", pattern=r"^[!-~]{1,200}$"
    )
    """Id of this replica, unique in the fleet. ASCII without spaces: headers carry it."""

    model_keys: Path | None = None
    """PEM file of the training service's public keys. A version is refused unless one of them has
    signed its files as they are. Not set: no signature is asked for."""

    record_keys: Path | None = None
    """PEM file of the control plane's public keys. A replica that starts serves only what one of
    them has recorded as served. Not set: the alias Serving counts."""

    state_dir: Path = Path(".cache/inference")
    """Folder of this replica alone: downloaded versions, and a list of those served last."""

    engine: Literal["auto", "openvino", "torch"] = "auto"
    """The library that runs the models. auto: torch on CUDA; on a CPU OpenVINO, and torch
    for versions without a graph."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto (CUDA if there is any), cpu, cuda or cuda:N. Without its device no replica starts."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format: bf16, fp32, or auto (bf16 where the hardware computes it, else fp32)."""

    threads: int = Field(default=1, ge=0)
    """Threads that compute a batch on the CPU; 0: one for each core that the process may use."""

    nice: int = Field(default=0, ge=0, le=19)
    """Niceness of the process. Above 0, processes that must answer quickly, as Envoy, go first."""

    http_port: int = Field(default=0, ge=0, le=65535)
    """Port of the Open Inference Protocol over HTTP (/v2/); 0: this replica does not offer it."""

    unary_port: int = Field(default=0, ge=0, le=65535)
    """Port of the unary gRPC calls that Envoy sends over HTTP/1.1; 0: every gRPC call comes to the
    gRPC port."""

    max_queue_texts: int = Field(default=4 * MAX_TEXTS, ge=2 * MAX_TEXTS)
    """Texts that may wait or run at once; half of them may come from PredictStream."""

    max_batch_tokens: int = Field(default=0, ge=0)
    """Tokens a batch may hold, padding included; 0: the number that suits the engine."""

    max_batch_texts: int = Field(default=64, ge=1)
    """Texts a batch may hold."""

    max_stream_requests: int = Field(default=64, ge=1)
    """Unanswered requests of one PredictStream at which it is read no further."""

    memory_limit_mib: int = Field(default=0, ge=0)
    """Most memory that the process may take, MiB, without pages of files; a version that does not
    fit is refused. 0: what the container's limit and the machine's free memory allow."""

    keep_versions: int = Field(default=3, ge=1)
    """Downloaded versions to keep per model, besides those in use."""

    batch_timeout_s: int = Field(default=30, ge=5)
    """Seconds after which a batch that is still being computed counts as hung; the replica then
    restarts."""

    restore_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that a replica which starts waits for its models; then it serves those that it has,
    and goes on loading the others."""

    lookup_timeout_s: float = Field(default=1.0, gt=0)
    """Seconds that MLflow gets to answer about a model that is not served."""
