"""`mesh --context compose gc` over a twin of Docker."""

import pytest

from mesh_cli.errors import CliError, NotUp
from tests.unit.cli.compose_command import ComposeCommand

VERSIONS = "exec -T training python -m service_kit.retention.old_versions"
LOGS = "exec -T airflow-cleaning python /opt/mesh/daily_cleaning.py"
RUN = "dag_id=machine-learning-training-pipeline/run_id=batch-7"


@pytest.fixture
def old(compose: ComposeCommand) -> ComposeCommand:
    """A mesh in containers with an old version and an old log."""
    compose.docker.printed = {
        "training": '[{"model": "reviews", "version": "3"}]\n',
        "airflow-cleaning": f'a warning\n[{{"name": "{RUN}", "bytes": 2048}}]\n',
    }
    return compose


@pytest.mark.parametrize("dry_run", [True, False])
def test_old_versions_and_logs_of_containers_are_told_and_removed(
    old: ComposeCommand, dry_run: bool
) -> None:
    option = ["--dry-run"] if dry_run else []
    document = old.json("gc", "--keep", "4", "--days", "7", *option)
    assert (document["dryRun"], document["bytes"]) == (dry_run, 2048)
    assert [(item["kind"], item["name"], item["bytes"]) for item in document["items"]] == [
        ("version", "reviews 3", None),
        ("task log", "batch-7", 2048),
    ]
    end = " --dry-run" if dry_run else ""
    assert old.docker.commands[-2:] == [
        f"compose {VERSIONS} --mlflow http://mlflow:5000 --artifacts http://artifacts:5000"
        f" --token-file /run/secrets/mlflow_token --keep 4{end}",
        f"compose {LOGS} --days 7 logs --logs /opt/airflow/logs{end}",
    ]


def test_a_table_shows_no_size_where_it_is_not_known(old: ComposeCommand) -> None:
    result = old("gc", "--dry-run")
    assert result.exit_code == 0, result.exception
    assert "2 things, 0.0 MiB, would be removed" in result.stdout
    [line] = [line for line in result.stdout.splitlines() if "reviews 3" in line]
    cells = [cell.strip() for cell in line.split("│")]
    assert cells[1:4] == ["version", "reviews 3", ""]


def test_a_command_that_fails_in_a_container_is_told(old: ComposeCommand) -> None:
    old.docker.failure = {f"compose {VERSIONS}": "MLflow is away: refused"}
    result = old("gc")
    assert isinstance(result.exception, CliError)
    assert "MLflow is away: refused" in str(result.exception)


@pytest.mark.parametrize("printed", ["", "no list here"])
def test_a_command_that_prints_no_list_is_told(old: ComposeCommand, printed: str) -> None:
    old.docker.printed["training"] = printed
    result = old("gc")
    assert isinstance(result.exception, CliError)
    assert "printed no list" in str(result.exception)


def test_a_mesh_that_is_down_is_told(old: ComposeCommand) -> None:
    old.docker.ports["envoy"] = ":0\n"
    result = old("gc")
    assert isinstance(result.exception, NotUp)
    assert "mesh --context compose up" in str(result.exception)
