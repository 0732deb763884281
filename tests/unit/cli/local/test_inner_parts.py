"""Parts that only other parts call stay on loopback, wherever the mesh is published."""

from pathlib import Path

import pytest

from control_plane.settings import ControlPlaneSettings
from inference_svc.settings import InferenceSettings
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import Part, Parts
from mesh_cli.local.ports import internal_names
from service_kit.server import check_who_gets_in
from service_kit.settings import ServiceSettings
from training_svc.settings import TrainingSettings
from trigger_svc.settings import TriggerSettings

EVERYWHERE = "0.0.0.0"
# Those whom people reach, and the control plane, which is told where Envoy listens.
OUTER = {"mlflow", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor"}
SERVICES = {"replica-1", "replica-2", "training", "trigger", "control-plane"}


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    home = MeshHome(tmp_path)
    home.make_folders()
    ports = {name: 1024 + number for number, name in enumerate(internal_names(2))}
    made = Parts(home, MeshSettings(host=EVERYWHERE, replicas=2), LocalSecrets(home), ports)
    return {part.name: part for part in made.all()}


def test_no_inner_part_is_told_to_listen_elsewhere(parts: dict[str, Part]) -> None:
    assert parts.keys() >= SERVICES
    for name in parts.keys() - OUTER:
        program = parts[name].program
        told = {
            key
            for key, value in (program.environment or {}).items()
            if EVERYWHERE in value and not key.startswith("AIRFLOW__")
        }
        assert told <= {"CONTROL_ENVOY_HOST"}, name
        assert not [word for word in program.command if EVERYWHERE in word], name


@pytest.mark.parametrize(
    "settings", [InferenceSettings, TrainingSettings, TriggerSettings, ControlPlaneSettings]
)
def test_a_host_in_the_operators_environment_is_refused_without_an_identity(
    settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{settings.model_config['env_prefix']}HOST", EVERYWHERE)
    with pytest.raises(ValueError, match="where other machines reach it"):
        check_who_gets_in(settings())
