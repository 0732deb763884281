"""`python requirements/images.py` writes the requirements of each image, pinned as in services.txt.

IMAGES names the distributions that a service imports. The distributions that those need in turn
are looked up in the environment that runs this script.
"""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
GRPC = ("grpcio", "grpcio-health-checking", "grpcio-reflection", "googleapis-common-protos")
# What torch needs besides CUDA's libraries; torch itself has a file of its own.
TORCH_NEEDS = (
    *("filelock", "fsspec", "jinja2", "networkx"),
    *("setuptools", "sympy", "typing_extensions"),
)
SERVICE = (*GRPC, "cryptography", "httpx", "prometheus-client", "pydantic-settings", "tenacity")
IMAGES = {
    "inference": (
        *SERVICE,
        "aiohttp",
        "httptools",
        "numpy",
        "openvino",
        "tokenizers",
        "uvloop",
    ),
    # Installed in addition to `inference` where torch computes: on a GPU, or for versions without
    # an OpenVINO graph.
    "inference-torch": ("safetensors", "transformers", *TORCH_NEEDS),
    "training": (
        *(
            *SERVICE,
            "accelerate",
            "huggingface_hub",
            "mlflow",
            "numpy",
            "openvino",
            "psycopg2-binary",
        ),
        *("safetensors", "scipy", "transformers", *TORCH_NEEDS),
    ),
    "trigger": (*SERVICE, "psycopg2-binary"),
    "control-plane": (
        *(*SERVICE, "envoy_data_plane", "grpclib", "psycopg2-binary", "PyJWT"),
        "typer",
    ),
    "mlflow": ("mlflow", "psycopg2-binary", "PyJWT"),
    # The distributions that the mesh's client needs in Airflow's image.
    "airflow-client": ("grpcio", "googleapis-common-protos", "protobuf"),
    # What builds the client's package in every image.
    "build": ("setuptools",),
}
# torch may come from an index of its own, so it has a requirements file of its own. OpenVINO's
# telemetry would report on its users.
LEFT_OUT = {"torch", "openvino-telemetry"}


def pins() -> dict[str, str]:
    """Pins of services.txt with their hashes, by the canonical name of the distribution."""
    entries = re.split(r"\n(?=\S)", (HERE / "services.txt").read_text().strip())
    named = {entry.partition("==")[0]: entry for entry in entries if not entry.startswith("#")}
    return {canonicalize_name(name): entry for name, entry in named.items()}


def closure(names: tuple[str, ...]) -> set[str]:
    """Canonical names of these distributions and of all that they need, but those of LEFT_OUT."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in LEFT_OUT:
            continue
        found.add(name)
        needs = map(Requirement, distribution(name).requires or ())
        waiting += [
            canonicalize_name(need.name)
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return found


def render(image: str) -> str:
    """Text of the requirements file of an image."""
    pinned = pins()
    lines = [pinned[name] for name in sorted(closure(IMAGES[image]))]
    return "\n".join(("# Written by images.py out of services.txt.", *lines, ""))


if __name__ == "__main__":
    for image in IMAGES:
        (HERE / f"{image}.txt").write_text(render(image))
