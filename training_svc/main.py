"""`python -m training_svc.main`: the training service."""

import subprocess
import sys

from service_kit.server import run
from training_svc.service import TrainingService
from training_svc.settings import TrainingSettings

# Run in a process of its own, because the service itself never imports torch.
_HAS_CUDA = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
CUDA_CHECK_TIMEOUT_S = 120.0  # importing torch may take long on a slow disk


def main() -> None:
    """Run the service until SIGTERM."""
    settings = TrainingSettings()
    _check_state_dir(settings)
    _check_base_models(settings)
    if settings.device == "cuda" and not _has_cuda():
        raise SystemExit(
            "training service: TRAINING_DEVICE is cuda, but torch finds no CUDA device here; "
            "use auto or cpu"
        )
    run("training", settings, lambda: TrainingService(settings))


def _check_state_dir(settings: TrainingSettings) -> None:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        probe = settings.state_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SystemExit(
            f"training service: TRAINING_STATE_DIR {settings.state_dir} is not writable: "
            f"{error.strerror}"
        ) from error


def _check_base_models(settings: TrainingSettings) -> None:
    try:
        settings.allowed_base_models()
    except ValueError as error:
        raise SystemExit(
            f"training service: TRAINING_BASE_MODELS or TRAINING_BASE_MODEL: {error}"
        ) from error


def _has_cuda() -> bool:
    check = subprocess.run([sys.executable, "-c", _HAS_CUDA], timeout=CUDA_CHECK_TIMEOUT_S)
    return check.returncode == 0


if __name__ == "__main__":
    main()
