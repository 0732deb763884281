"""`python -m trigger_svc.main`: runs the trigger service."""

from service_kit.server import run
from trigger_svc.service import TriggerService
from trigger_svc.settings import TriggerSettings


def main() -> None:
    """Run until SIGTERM."""
    settings = TriggerSettings()
    run("trigger", settings, lambda: TriggerService(settings))


if __name__ == "__main__":
    main()
