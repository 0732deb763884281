"""`mesh --context compose …` over a twin of Docker and a mesh of scripted answers."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.compose.containers import part_statuses, published_address, read_ps
from mesh_cli.compose.engine import Engine, Output
from mesh_cli.deployments import fleet_wait
from mesh_cli.deployments.deployment import PartStatus
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.local.local_deployment import LocalDeployment
from mesh_cli.main import app
from mesh_cli.rows.csv_files import Row
from mesh_cli.verbs import context
from tests.twins.stub_mesh import StubMesh, running_stub_mesh
from tests.unit.cli.compose_twin import TwinDocker


class Rig:
    """The command, in the context of containers."""

    def __init__(self, docker: TwinDocker, stub: StubMesh, address: str) -> None:
        self.docker = docker
        self.stub = stub
        self.address = address
        docker.ports["envoy"] = f"{address}\n"

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["--context", "compose", *arguments])

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    docker = TwinDocker(tmp_path)
    monkeypatch.setattr(fleet_wait, "POLL_S", 0)
    monkeypatch.setattr(context, "Engine", lambda _folder: docker.engine)
    monkeypatch.setattr("mesh_cli.compose.initialise.os.chown", lambda *_: None)
    monkeypatch.delenv("MESH_ADDRESS", raising=False)
    with running_stub_mesh() as (stub, address):
        stub.replicas = docker.fleet_replicas
        yield Rig(docker, stub, address)
    context.choose(context.LOCAL)


@pytest.fixture
def initialised(rig: Rig) -> Rig:
    (rig.docker.folder / "secrets").mkdir()
    (rig.docker.folder / "secrets" / "airflow_passwords.json").write_text('{"admin": "xyz"}')
    return rig


def test_local_is_the_default_and_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_CONTEXT", raising=False)
    CliRunner().invoke(app, ["roll"])
    assert isinstance(context.deployment(), LocalDeployment)
    result = CliRunner().invoke(app, ["--context", "swarm", "status"])
    assert isinstance(result.exception, BadInput)
    assert "local or compose, not 'swarm'" in str(result.exception)


def test_the_variable_chooses_as_well(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CONTEXT", "compose")
    assert CliRunner().invoke(app, ["fleet", "--json"]).exit_code == 0
    assert isinstance(context.deployment(), ComposeDeployment)


def test_verbs_find_the_published_port(rig: Rig) -> None:
    fleet = rig.json("fleet")
    assert len(fleet["replicas"]) == 2
    assert rig.docker.commands == ["compose port envoy 8000"]


def test_mesh_address_wins(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_ADDRESS", rig.address)
    rig.json("fleet")
    assert rig.docker.commands == []


@pytest.mark.parametrize("answer", ["", ":0\n", "invalid IP:0\n"])
def test_without_containers_a_verb_says_how_to_start_them(rig: Rig, answer: str) -> None:
    rig.docker.ports["envoy"] = answer
    result = rig("models")
    assert isinstance(result.exception, NotUp)
    assert "run `mesh --context compose up`" in str(result.exception)


def test_an_engine_that_is_away_is_said(rig: Rig) -> None:
    rig.docker.failure = {"compose port": "first line\nCannot connect to the Docker daemon"}
    result = rig("models")
    assert isinstance(result.exception, NotUp)
    assert "`docker compose port` failed: Cannot connect to the Docker daemon" in str(
        result.exception
    )


def test_status_tells_every_part_and_the_doors(initialised: Rig) -> None:
    document = initialised.json("status")
    assert document["healthy"]
    assert [part["name"] for part in document["parts"]] == [
        *("envoy", "envoy-config", "inference-1", "inference-2", "mlflow", "postgres"),
    ]
    [envoy, config, *_] = document["parts"]
    assert envoy == {
        "name": "envoy",
        "healthy": True,
        "pid": None,
        "url": f"http://{initialised.address}",
        "detail": "mesh/envoy: Up 2 minutes (healthy)",
    }
    assert config["detail"] == "mesh/envoy-config: Exited (0) 2 minutes ago"
    assert document["urls"] == {
        "mesh": f"http://{initialised.address}",
        "mlflow": "http://127.0.0.1:5001",
    }
    assert document["ports"] == {
        "envoy": int(initialised.address.rpartition(":")[2]),
        "mlflow": 5001,
    }
    assert document["airflow"] == {"user": "admin", "password": "xyz"}
    assert [model["name"] for model in document["models"]] == ["reviews", "paused", "new"]
    assert document["batches"] == []
    assert document["home"] == str(initialised.docker.folder)
    assert document["database"].endswith("exec postgres psql -U postgres training")


def test_status_fails_unless_all_is_healthy(initialised: Rig) -> None:
    initialised.docker.containers.remove(initialised.docker.replicas[0])
    assert initialised("status").exit_code == 0
    initialised.docker.replicas[0].health = "unhealthy"
    result = initialised("status")
    assert result.exit_code == 1
    assert "Airflow   not open" in result.stdout


def test_status_without_containers_is_not_up(rig: Rig) -> None:
    rig.docker.containers.clear()
    assert isinstance(rig("status").exception, NotUp)


def _listed(service: str, state: str, **more: object) -> dict[str, object]:
    return {"Service": service, "Name": f"mesh-{service}-1", "State": state, **more}


@pytest.mark.parametrize(
    ("container", "healthy"),
    [
        (_listed("mlflow", "running", Health="healthy"), True),
        (_listed("mlflow", "running", Health=""), True),
        (_listed("mlflow", "running"), True),
        (_listed("mlflow", "running", Health="starting"), False),
        (_listed("mlflow", "restarting"), False),
        (_listed("mlflow", "exited", ExitCode=0), False),
        (_listed("envoy-config", "exited", ExitCode=0), True),
        (_listed("airflow-migrate", "exited", ExitCode=1), False),
        (_listed("mlflow", "created"), False),
    ],
)
def test_which_container_is_healthy(container: dict[str, object], healthy: bool) -> None:
    [status] = part_statuses([container], [], {})
    assert status.healthy is healthy


def test_a_service_without_a_container_is_told() -> None:
    containers = [
        {"Service": "inference", "Name": f"mesh-inference-{n}", "State": "running"} for n in (10, 2)
    ]
    statuses = part_statuses(containers, ["envoy", "inference"], {"envoy": "http://x"})
    assert statuses[0] == PartStatus("envoy", False, None, "http://x", "has no container")
    assert [status.name for status in statuses[1:]] == ["inference-2", "inference-10"]


def test_both_forms_of_ps_are_read() -> None:
    containers = [{"Name": "a"}, {"Name": "b"}]
    assert read_ps(json.dumps(containers)) == containers
    assert read_ps("".join(f"{json.dumps(item)}\n" for item in containers)) == containers
    assert read_ps("\n") == read_ps("[]\n") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8000\n", ("127.0.0.1", 8000)),
        ("0.0.0.0:8000\n[::]:8000\n", ("127.0.0.1", 8000)),
        ("[::]:8000", ("127.0.0.1", 8000)),
        ("10.1.2.3:8000", ("10.1.2.3", 8000)),
        ("[fd00::1]:8000", ("[fd00::1]", 8000)),
        (":0", None),
        ("", None),
    ],
)
def test_published_ports_are_read(text: str, found: tuple[str, int] | None) -> None:
    assert published_address(text) == found


def test_up_makes_the_secrets_first_and_waits_for_health(rig: Rig) -> None:
    document = rig.json("up")
    assert (rig.docker.folder / "secrets" / "mesh.pgpass").exists()
    assert "MESH_UID=" in (rig.docker.folder / ".env").read_text()
    assert rig.docker.commands[0] == ("compose up --detach --build --wait --wait-timeout 600")
    assert document["healthy"]


def test_up_prints_the_doors_and_returns(rig: Rig) -> None:
    result = rig("up")
    assert result.exit_code == 0, result.output
    password = json.loads((rig.docker.folder / "secrets" / "airflow_passwords.json").read_text())[
        "admin"
    ]
    for words in (rig.address, "127.0.0.1:5001", f"user admin, password {password}", "psql -U"):
        assert words in result.stdout


def test_up_that_fails_says_so(rig: Rig) -> None:
    rig.docker.failure = {"compose up": "no space left"}
    result = rig("up")
    assert isinstance(result.exception, CliError)
    assert "`docker compose up` failed" in str(result.exception)


def test_down_leaves_the_volumes(rig: Rig) -> None:
    result = rig("down")
    assert result.stdout == "stopped; its state stays\n"
    assert rig.docker.commands[-1] == "compose down"
    rig.docker.ports.clear()
    assert rig.json("down") == {"stopped": False}


def test_scale_and_roll_report_what_they_did(rig: Rig) -> None:
    assert rig.json("scale", "3") == {
        "replicas": ["inference-1", "inference-2", "inference-3"],
        "added": ["inference-3"],
        "removed": [],
    }
    assert rig("scale", "1").stdout == "1 replica: removed inference-3, removed inference-2\n"
    rig.docker.image = "new"
    result = rig("roll", "--build")
    assert result.stdout == "1 replica: added inference-2, removed inference-1\n"
    assert rig.docker.summary() == [("inference-2", "new")]
    assert "compose build inference" in rig.docker.commands


def test_a_local_mesh_has_nothing_to_roll() -> None:
    for arguments in (["roll"], ["roll", "--build"]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, CliError)
        assert "mesh --context compose roll" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["envoy"], "compose logs --tail 50 envoy"),
        (["inference", "-n", "5"], "compose logs --tail 5 inference"),
        (["inference-2", "--follow"], "compose logs --tail 50 --follow --index 2 inference"),
    ],
)
def test_logs_are_those_of_the_part(rig: Rig, arguments: list[str], command: str) -> None:
    assert rig("logs", *arguments).exit_code == 0
    assert rig.docker.commands[-1] == command


def test_logs_of_an_unknown_part_name_the_known_ones(rig: Rig) -> None:
    result = rig("logs", "inference-9")
    assert isinstance(result.exception, BadInput)
    assert "envoy, envoy-config, inference, mlflow" in str(result.exception)
    assert "inference-2" in str(result.exception)


def test_rows_are_inserted_by_one_statement(rig: Rig) -> None:
    rows = [Row(1, 'say "so",\nthen', "good", ""), Row(2, "", "bad", "")]
    ComposeDeployment(rig.docker.engine).insert("reviews", rows)
    assert rig.docker.commands == [
        "compose exec -T postgres psql -U postgres -d training -q -v ON_ERROR_STOP=1"
        ' -c COPY training."reviews" (text, label) FROM STDIN WITH (FORMAT csv)'
    ]
    assert list(csv.reader(io.StringIO(rig.docker.stdin))) == [[r.text, r.label] for r in rows]
    assert '"","bad"' in rig.docker.stdin


def test_rows_that_are_refused_raise(rig: Rig) -> None:
    rig.docker.failure = {"compose exec": 'ERROR:  relation "training.x" does not exist'}
    with pytest.raises(CliError, match="does not exist"):
        ComposeDeployment(rig.docker.engine).insert("x", [Row(1, "a", "b", "")])


def test_gc_is_for_local_meshes(rig: Rig) -> None:
    result = rig("gc", "--dry-run")
    assert isinstance(result.exception, CliError)
    assert "by themselves" in str(result.exception)


def test_a_folder_without_compose_yaml_is_said(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"no compose\.yaml in"):
        Engine(tmp_path).compose("ps")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (FileNotFoundError(), "install Docker"),
        (subprocess.TimeoutExpired("docker", 1), "`docker compose ps` did not end"),
    ],
)
def test_a_docker_that_cannot_be_run_is_said(
    tmp_path: Path, failure: Exception, words: str
) -> None:
    def run(*_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        raise failure

    (tmp_path / "compose.yaml").write_text("")
    with pytest.raises(CliError, match=words):
        Engine(tmp_path, run).compose("ps", "--all")


@pytest.mark.parametrize("output", ["captured", "stdout", "stderr"])
def test_commands_run_in_the_project_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], output: Output
) -> None:
    from mesh_cli.compose.engine import run

    result = run(["sh", "-c", "pwd; cat"], folder=tmp_path, stdin="given", output="captured")
    assert result.stdout == f"{tmp_path}\ngiven"
    assert run(["pwd"], folder=tmp_path, stdin="", output=output).returncode == 0
    printed = capfd.readouterr()
    expected = f"{tmp_path}\n"
    assert printed.out == (expected if output == "stdout" else "")
    assert printed.err == (expected if output == "stderr" else "")
