"""`python -m control_plane.main`: the control plane's process."""

from control_plane.service import ControlPlane
from control_plane.settings import ControlPlaneSettings
from service_kit.server import run


def main() -> None:
    """Entry point."""
    settings = ControlPlaneSettings()
    run("control-plane", settings, lambda: ControlPlane(settings))


if __name__ == "__main__":
    main()
