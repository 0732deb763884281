"""`mesh --context compose …` over a twin of Docker and a mesh of scripted answers."""

import csv
import io
import json

import pytest

from mesh_cli.compose.compose_deployment import ComposeDeployment
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.rows.csv_files import Row
from tests.unit.cli.compose_command import ComposeCommand


@pytest.fixture
def initialised(compose: ComposeCommand) -> ComposeCommand:
    (compose.docker.folder / "secrets").mkdir()
    (compose.docker.folder / "secrets" / "airflow_passwords.json").write_text('{"admin": "xyz"}')
    return compose


def test_status_tells_every_part_and_the_doors(initialised: ComposeCommand) -> None:
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
    names = [model["name"] for model in document["models"]]
    assert names == ["reviews", "paused", "keptcanary", "new"]
    assert document["batches"] == []
    assert document["home"] == str(initialised.docker.folder)
    assert document["database"].endswith("exec postgres psql -U mesh_operator training")


def test_status_fails_unless_all_is_healthy(initialised: ComposeCommand) -> None:
    initialised.docker.containers.remove(initialised.docker.replicas[0])
    assert initialised("status").exit_code == 0
    initialised.docker.replicas[0].health = "unhealthy"
    result = initialised("status")
    assert result.exit_code == 1
    assert "Airflow   not open" in result.stdout


def test_status_without_containers_is_not_up(compose: ComposeCommand) -> None:
    compose.docker.containers.clear()
    assert isinstance(compose("status").exception, NotUp)


def test_up_makes_the_secrets_first_and_waits_for_health(compose: ComposeCommand) -> None:
    document = compose.json("up")
    assert (compose.docker.folder / "secrets" / "mesh_operator.pgpass").exists()
    assert "MESH_UID=" in (compose.docker.folder / ".env").read_text()
    assert compose.docker.commands[0] == ("compose up --detach --build --wait --wait-timeout 600")
    assert document["healthy"]


def test_up_prints_the_doors_and_returns(compose: ComposeCommand) -> None:
    result = compose("up")
    assert result.exit_code == 0, result.output
    passwords = compose.docker.folder / "secrets" / "airflow_passwords.json"
    password = json.loads(passwords.read_text())["admin"]
    for words in (compose.address, "127.0.0.1:5001", "user admin, password hidden", "psql -U"):
        assert words in result.stdout
    assert password not in result.output


@pytest.mark.parametrize(("options", "shown"), [([], False), (["--show-secrets"], True)])
def test_status_shows_the_password_only_when_asked(
    compose: ComposeCommand, options: list[str], shown: bool
) -> None:
    assert compose("up").exit_code == 0
    (compose.docker.folder / "secrets" / "airflow_passwords.json").write_text('{"admin": "xyz"}')
    result = compose("status", *options)
    assert ("password xyz" in result.output) is shown
    assert ("xyz" in result.output) is shown
    assert ("mesh status --show-secrets" in result.output) is not shown


def test_an_up_that_fails_names_the_command(compose: ComposeCommand) -> None:
    compose.docker.failure = {"compose up": "no space left"}
    result = compose("up")
    assert isinstance(result.exception, CliError)
    assert "`docker compose up` failed" in str(result.exception)


def test_down_leaves_the_volumes(compose: ComposeCommand) -> None:
    result = compose("down")
    assert result.stdout == "stopped; its state stays\n"
    assert compose.docker.commands[-1] == "compose down"
    compose.docker.ports.clear()
    assert compose.json("down") == {"stopped": False}


def test_scale_and_roll_report_what_they_did(compose: ComposeCommand) -> None:
    assert compose.json("scale", "3") == {
        "replicas": ["inference-1", "inference-2", "inference-3"],
        "added": ["inference-3"],
        "removed": [],
    }
    assert compose("scale", "1").stdout == "1 replica: removed inference-3, removed inference-2\n"
    compose.docker.image = "new"
    result = compose("roll", "--build")
    assert result.stdout == "1 replica: added inference-2, removed inference-1\n"
    assert compose.docker.summary() == [("inference-2", "new")]
    assert "compose build inference" in compose.docker.commands


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["envoy"], "compose logs --tail 50 envoy"),
        (["inference", "-n", "5"], "compose logs --tail 5 inference"),
        (["inference-2", "--follow"], "compose logs --tail 50 --follow --index 2 inference"),
    ],
)
def test_logs_are_those_of_the_part(
    compose: ComposeCommand, arguments: list[str], command: str
) -> None:
    assert compose("logs", *arguments).exit_code == 0
    assert compose.docker.commands[-1] == command


def test_logs_of_an_unknown_part_name_the_known_ones(compose: ComposeCommand) -> None:
    result = compose("logs", "inference-9")
    assert isinstance(result.exception, BadInput)
    assert "envoy, envoy-config, inference, mlflow" in str(result.exception)
    assert "inference-2" in str(result.exception)


def test_rows_are_inserted_by_one_statement(compose: ComposeCommand) -> None:
    rows = [Row(1, 'say "so",\nthen', "good", ""), Row(2, "", "bad", "")]
    ComposeDeployment(compose.docker.engine).insert("reviews", rows)
    assert compose.docker.commands == [
        "compose exec -T postgres psql -U mesh_operator -d training -q -v ON_ERROR_STOP=1"
        ' -c COPY training."reviews" (text, label) FROM STDIN WITH (FORMAT csv)'
    ]
    assert list(csv.reader(io.StringIO(compose.docker.stdin))) == [[r.text, r.label] for r in rows]
    assert '"","bad"' in compose.docker.stdin


@pytest.mark.parametrize("role", ["mesh_shared", "mesh_operator"])
def test_the_record_of_tokens_and_the_audit_are_reached_without_a_superuser(
    compose: ComposeCommand, role: str
) -> None:
    compose.docker.printed = {"postgres": '{"found": 1}'}
    mesh = ComposeDeployment(compose.docker.engine)
    assert mesh.ask("SELECT %(given)s::jsonb", {"id": "a'b"}, role) == {"found": 1}
    assert compose.docker.commands == [
        "compose exec -T postgres psql -U mesh_operator -d training -q -t -A -v ON_ERROR_STOP=1"
        """ -v given={"id": "a'b"}"""
    ]
    assert compose.docker.stdin == f"SET ROLE {role};\nSELECT :'given'::jsonb;\n"


def test_rows_that_are_refused_raise(compose: ComposeCommand) -> None:
    compose.docker.failure = {"compose exec": 'ERROR:  relation "training.x" does not exist'}
    with pytest.raises(CliError, match="does not exist"):
        ComposeDeployment(compose.docker.engine).insert("x", [Row(1, "a", "b", "")])
