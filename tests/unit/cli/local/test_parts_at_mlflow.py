"""How a local mesh starts MLflow, and with which token each part calls it."""

from pathlib import Path

import pytest

from mesh_cli.local.home import MeshHome, MeshSettings
from mesh_cli.local.local_secrets import LocalSecrets
from mesh_cli.local.parts import Parts
from mesh_cli.local.ports import internal_names
from mesh_cli.local.supervisord_config import Program
from service_kit.mlflow_gate.__main__ import parsed
from service_kit.mlflow_gate.tokens import TokenCheck
from service_kit.retention import daily_cleaning


def programs(folder: Path, **settings: str) -> dict[str, Program]:
    home = MeshHome(folder)
    home.make_folders()
    secrets = LocalSecrets(home)
    secrets.tokens.make()
    venv = folder / "airflow"
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "bin" / "airflow").touch()
    ports = {name: 1024 + number for number, name in enumerate(internal_names(2))}
    chosen = MeshSettings(home=folder, airflow_venv=venv, **settings)  # type: ignore[arg-type]
    parts = Parts(home, chosen, secrets, ports).all()
    return {part.name: part.program for part in parts}


@pytest.mark.parametrize(("host", "is_open"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_mlflow_starts_behind_its_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, is_open: bool
) -> None:
    monkeypatch.delenv("CONTROL_PLANE_OPEN_PREDICT", raising=False)
    monkeypatch.setenv("MESH_MLFLOW_HOSTS", "mlflow.example.com")
    found = programs(tmp_path, host=host)
    command = found["mlflow"].command
    assert command[1:3] == ["-m", "service_kit.mlflow_gate"]
    options = parsed(command[3:])
    assert (options.host, options.port, options.open_reads) == (host, 5001, is_open)
    assert options.host_names == ("mlflow.example.com",)
    assert options.token_keys.is_file()
    assert options.backend_store_uri.endswith("/mlflow")
    revoked = found["control-plane"].environment["CONTROL_PLANE_REVOKED_TOKENS_FILE"]
    assert str(options.revoked_tokens) == revoked


def test_each_part_has_its_own_token(tmp_path: Path) -> None:
    found = programs(tmp_path)
    check = TokenCheck(tmp_path / "secrets" / "token-keys.json", None)
    files = {
        name: Path(value)
        for name, program in found.items()
        for variable, value in program.environment.items()
        if variable.endswith("_MLFLOW_TOKEN_FILE")
    }
    cleaning = daily_cleaning.parsed(found["mlflow-cleaning"].command[2:])
    files["mlflow-cleaning"] = cleaning.token_file
    assert {name: set(check.holder(path.read_text()).scopes) for name, path in files.items()} == {
        "replica-1": {"mlflow-read"},
        "replica-2": {"mlflow-read"},
        "training": {"mlflow-train"},
        "trigger": {"mlflow-create"},
        "control-plane": {"mlflow-serve"},
        "mlflow-cleaning": {"mlflow-clean"},
    }
