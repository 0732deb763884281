"""Keeps libraries from reporting on their users."""

import sys


def refuse_openvino_telemetry() -> None:
    """Call before openvino is imported: it would report the import over the network.

    Its reporter is a package of its own, and openvino does without where that cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
