"""A real Envoy's check of a file that it is to start from."""

import subprocess
from pathlib import Path

from tests.real_parts.envoy import envoy_binary


def check_envoy_accepts(file: Path) -> None:
    """Raise CalledProcessError unless Envoy would start from this file."""
    subprocess.run([envoy_binary(), "--mode", "validate", "-c", str(file)], check=True)
