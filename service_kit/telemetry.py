"""Keeps libraries from reporting on their users over the network."""

import sys


def disable_openvino_telemetry() -> None:
    """Keep openvino from reporting its import; call this before openvino is imported.

    openvino reports through the package `openvino_telemetry`, and works without it. A None in
    sys.modules makes the import of that package fail.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
