"""Airflow reads its DAGs from folders that no process can write to, in both deployments."""

import configparser
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mesh_cli.errors import CliError
from mesh_cli.local import airflow
from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import LocalSecrets
from tests.whole_mesh.running_mesh import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture
def home(tmp_path: Path) -> MeshHome:
    home = MeshHome(tmp_path / "home")
    home.make_folders()
    return home


def test_airflow_reads_a_copy_that_nobody_may_write(home: MeshHome, tmp_path: Path) -> None:
    given = tmp_path / "dags"
    (given / "below").mkdir(parents=True)
    (given / "dag.py").write_text("first")
    (given / "below" / "step.py").write_text("step")
    (given / "__pycache__").mkdir()
    settings = MeshSettings(home=home.root, dags=given)
    airflow.write_config(home, settings, LocalSecrets(home), 1)
    parser = configparser.RawConfigParser()
    parser.read(home.airflow / "airflow.cfg")
    dags, plugins = (Path(parser["core"][name]) for name in ("dags_folder", "plugins_folder"))
    assert not dags.is_relative_to(given)
    found = {path.relative_to(dags).as_posix(): path for path in dags.rglob("*")}
    assert set(found) == {"dag.py", "below", "below/step.py"}
    assert list(plugins.iterdir()) == []
    for path in (dags, plugins, *found.values()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222, path
    if os.geteuid():
        with pytest.raises(PermissionError):
            (dags / "forged.py").write_text("")
    # The next start takes what the operator has changed, and drops what is gone.
    (given / "dag.py").write_text("second")
    (given / "below" / "step.py").unlink()
    airflow.write_config(home, settings, LocalSecrets(home), 1)
    assert (dags / "dag.py").read_text() == "second"
    assert not (dags / "below" / "step.py").exists()


def test_a_missing_folder_of_dags_is_told(home: MeshHome, tmp_path: Path) -> None:
    settings = MeshSettings(home=home.root, dags=tmp_path / "missing")
    with pytest.raises(CliError, match="cannot be copied"):
        airflow.read_only_dags(home, settings)


def test_in_containers_the_dags_belong_to_root_and_no_container_of_airflow_is_root() -> None:
    dockerfile = (ROOT / "dags" / "Dockerfile").read_text()
    assert "COPY --chown=0:0 --chmod=0555 dags/*.py /opt/mesh/dags/" in dockerfile
    containers = {name: of for name, of in COMPOSE["services"].items() if "airflow" in name}
    assert len(containers) > 3
    for name, container in containers.items():
        environment = container["environment"]
        assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == "/opt/mesh/dags", name
        assert environment["AIRFLOW__CORE__PLUGINS_FOLDER"].startswith("/opt/mesh/"), name
        assert container["user"].startswith("${MESH_UID:-50000}"), name
        assert container["cap_drop"] == ["ALL"], name
        assert not any("/opt/mesh" in volume for volume in container["volumes"]), name


def test_mlflow_and_airflow_share_no_volume() -> None:
    volumes: dict[str, set[str]] = {"airflow": set(), "mlflow": set()}
    for name, container in COMPOSE["services"].items():
        mounted = {
            volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            for volume in container.get("volumes", ())
        }
        if "airflow" in name:
            volumes["airflow"] |= mounted
        if "mlflow" in name or name == "artifacts":
            volumes["mlflow"] |= mounted
    assert volumes["airflow"]
    assert volumes["mlflow"]
    assert not volumes["airflow"] & volumes["mlflow"]


def test_each_container_that_calls_mlflow_has_the_token_of_its_part_only() -> None:
    held = {
        name: {
            each["source"] for each in container.get("secrets", ()) if "mlflow_token" in str(each)
        }
        for name, container in COMPOSE["services"].items()
    }
    assert {name: tokens for name, tokens in held.items() if tokens} == {
        # MLflow's own pages read files from the artifact server.
        "mlflow": {"inference_token"},
        "mlflow-cleaning": {"mlflow_cleaning_token"},
        "training": {"training_token"},
        "inference": {"inference_token"},
        "trigger": {"trigger_token"},
        "control-plane": {"control_plane_token"},
    }
    for name in ("mlflow", "artifacts"):
        container = COMPOSE["services"][name]
        assert "service_kit.mlflow_gate" in container["command"], name
        assert "--token-keys=/run/secrets/token_keys" in container["command"], name
        assert "token_keys" in container["secrets"], name
        assert "revoked:/var/lib/mesh:ro" in container["volumes"], name
    assert "revoked:/var/lib/mesh" in COMPOSE["services"]["control-plane"]["volumes"]
