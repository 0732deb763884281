"""The command that deletes old versions from inside a mesh in containers."""

import pytest

from service_kit.retention import old_versions


def test_it_fails_plainly_while_mlflow_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert old_versions.main(["--mlflow", "http://127.0.0.1:1", "--keep", "10"]) == 1
    assert "MLflow is away" in capsys.readouterr().err


def test_at_least_one_version_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        old_versions.main(["--mlflow", "http://127.0.0.1:1", "--keep", "0"])
    assert "--keep is at least 1, not 0" in capsys.readouterr().err
