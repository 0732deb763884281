"""Every line of docs/migrating.md works as it stands."""

import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import SAMPLES
from tests.acceptance.running_mesh import ROOT, TIMEOUT_S, Mesh


def _lines() -> list[str]:
    text = (ROOT / "docs" / "migrating.md").read_text()
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def test_every_line_works(mesh: Mesh, tmp_path: Path) -> None:
    # Few rows: what is learned does not matter here, and three jobs have to end.
    rows = (SAMPLES / "reviews_first.csv").read_text().splitlines(keepends=True)[:17]
    (tmp_path / "train.csv").write_text("".join(rows))
    environment = {
        **mesh.environment,
        # As in an activated environment, where `mesh` and `python` are the project's.
        "PATH": f"{Path(sys.executable).parent}:{mesh.environment['PATH']}",
        "MESH": mesh.url,
        "DATABASE": mesh.json("status")["urls"]["postgres"],
    }
    lines = _lines()
    assert len(lines) > 10
    for line in lines:
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
