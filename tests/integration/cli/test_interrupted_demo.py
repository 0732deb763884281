"""`mesh demo` that is interrupted leaves no process behind."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.whole_mesh.running_mesh import MESH, ROOT, new_mesh

STARTED_S = 120.0
STOPPED_S = 120.0


def processes_of(home: Path) -> str:
    return subprocess.run(["pgrep", "-af", str(home)], capture_output=True, text=True).stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_stops_the_mesh_that_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    mesh = new_mesh(tmp_path / "mesh")
    demo = subprocess.Popen(
        [MESH, "demo"],
        env=mesh.environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A process that is started in the background of a shell ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + STARTED_S
        # Envoy starts after PostgreSQL is ready, so by then several parts run.
        while "envoy.pb" not in processes_of(mesh.home):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        demo.send_signal(number)
        # A second signal does not disturb the stopping.
        time.sleep(0.5)
        demo.send_signal(number)
        assert demo.wait(STOPPED_S) == 130
    finally:
        demo.kill()
        demo.wait()
        subprocess.run([MESH, "down"], env=mesh.environment, cwd=ROOT, check=False)
    assert processes_of(mesh.home) == ""
