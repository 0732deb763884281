"""`python -m inference_svc.main`: one inference replica."""

import os
import sys

import uvloop

from inference import open_inference_pb2
from inference_svc.engines.base import EngineUnavailable
from inference_svc.engines.choice import create_engine
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import data_pb2, predict_pb2, reload_pb2, train_pb2
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.registry import Registry
from service_kit.server import run

# Envoy sends reflection to the replicas, so they answer for every public service.
REFLECTED = tuple(
    service.full_name
    for file in (predict_pb2, train_pb2, reload_pb2, data_pb2, open_inference_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)


def make_service(settings: InferenceSettings) -> InferenceService:
    """Build the replica. Raises EngineUnavailable, and OSError for an unwritable state folder."""
    # A replica tokenises on threads of its own, and loads nothing from the Hugging Face hub.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    engine = create_engine(settings.engine, settings.device, settings.precision, settings.threads)
    return InferenceService(
        settings, engine, lambda: Registry(settings.mlflow_url, auth=MlflowToken.of(settings))
    )


def main() -> None:
    """Entry point."""
    settings = InferenceSettings()
    os.nice(settings.nice)
    try:
        run(
            "inference",
            settings,
            lambda: make_service(settings),
            REFLECTED,
            uvloop.new_event_loop,
        )
    except EngineUnavailable as error:
        sys.exit(f"cannot start: {error}")
    except OSError as error:
        sys.exit(f"cannot start: {error}")


if __name__ == "__main__":
    main()
