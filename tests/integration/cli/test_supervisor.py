"""A real supervisord whose programs change while it runs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mesh_cli.errors import CliError
from mesh_cli.local.home import MeshHome
from mesh_cli.local.process_manager import Program, Supervisor
from tests.real_parts.waiting import until

# Says which one it is, and that it was asked to stop.
SCRIPT = """\
import os, signal, sys
print(os.environ["GREETING"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("stopping", flush=True)))
while True:
    signal.pause()
"""


def program(home: MeshHome, name: str, greeting: str = "at 100 %") -> Program:
    script = home.root / "program.py"
    script.write_text(SCRIPT)
    return Program(name, [sys.executable, str(script)], {"GREETING": greeting})


@pytest.fixture
def home(tmp_path: Path) -> MeshHome:
    home = MeshHome(tmp_path)
    home.make_folders()
    return home


@pytest.fixture
def supervisor(home: MeshHome) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    supervisor.start([program(home, "first")], {"MESH_RUN_ID": "test"})
    yield supervisor
    supervisor.stop(last="first")


async def running(supervisor: Supervisor, name: str) -> int:
    await until(lambda: supervisor.programs()[name]["statename"] == "RUNNING")
    pid: int = supervisor.programs()[name]["pid"]
    return pid


async def test_a_program_joins_and_leaves_beside_one_that_runs_on(
    home: MeshHome, supervisor: Supervisor
) -> None:
    supervisor.start_program("first")
    first = await running(supervisor, "first")

    supervisor.update([program(home, "first"), program(home, "second")])
    assert supervisor.programs()["second"]["statename"] == "STOPPED"
    supervisor.start_program("second")
    second = await running(supervisor, "second")
    assert psutil.Process(second).environ()["MESH_RUN_ID"] == "test"
    log = home.logs / "second.log"
    assert log.read_text() == "at 100 %\n"

    assert supervisor.stop_programs(["second"]) == []
    assert not psutil.pid_exists(second)
    supervisor.update([program(home, "first")])
    assert set(supervisor.programs()) == {"first"}
    assert log.read_text().endswith("stopping\n")
    assert await running(supervisor, "first") == first


async def test_a_program_comes_back_as_it_is_described_now(
    home: MeshHome, supervisor: Supervisor
) -> None:
    for greeting in ("one", "two"):
        supervisor.update([program(home, "first"), program(home, "second", greeting)])
        supervisor.start_program("second")
        await running(supervisor, "second")
        supervisor.stop_programs(["second"])
        supervisor.update([program(home, "first")])
    assert (home.logs / "second.log").read_text() == "one\nstopping\ntwo\nstopping\n"


async def test_a_program_that_runs_is_not_forgotten(supervisor: Supervisor) -> None:
    supervisor.start_program("first")
    pid = await running(supervisor, "first")
    with pytest.raises(CliError, match="STILL_RUNNING"):
        supervisor.update([])
    os.kill(pid, 0)


async def test_a_program_that_does_not_stop_in_time_is_named(
    home: MeshHome, supervisor: Supervisor
) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    stubborn = Program("stubborn", [sys.executable, "-c", deaf], stop_wait_s=1)
    supervisor.update([program(home, "first"), stubborn])
    supervisor.start_program("stubborn")
    await running(supervisor, "stubborn")
    assert supervisor.stop_programs(["stubborn"], timeout_s=0) == ["stubborn"]
    # supervisord kills it in the end.
    assert supervisor.stop_programs(["stubborn"], timeout_s=10) == []


async def test_a_killed_program_runs_again_at_once(supervisor: Supervisor) -> None:
    parent = psutil.Process(supervisor.pid())
    supervisor.start_program("first")
    taken = []
    for _ in range(4):
        killed = await running(supervisor, "first")
        os.kill(killed, signal.SIGKILL)
        moment = time.monotonic()
        # Asking supervisord itself would wake it.
        while {child.pid for child in parent.children()} <= {killed}:
            await asyncio.sleep(0.01)
        taken.append(time.monotonic() - moment)
    assert min(taken) < 0.5, taken


# A program with a child of its own, which would outlive it.
PARENT = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_a_killed_program_takes_its_children_with_it(
    home: MeshHome, supervisor: Supervisor
) -> None:
    script = home.root / "parent.py"
    script.write_text(PARENT)
    parent = Program("parent", [sys.executable, str(script)])
    supervisor.update([program(home, "first"), parent])
    supervisor.start_program("parent")
    killed = await running(supervisor, "parent")
    log = home.logs / "parent.log"
    await until(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    os.kill(killed, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(child))
    await until(lambda: supervisor.programs()["parent"]["pid"] not in (0, killed))


# Dies as it starts while the fault is there.
FAULTY = """\
import pathlib, signal, sys
print("tried", flush=True)
if pathlib.Path(sys.argv[1]).exists():
    sys.exit(1)
print("well", flush=True)
signal.pause()
"""


async def test_a_program_that_died_again_and_again_is_back_when_the_fault_is_gone(
    home: MeshHome, supervisor: Supervisor
) -> None:
    fault, script, log = home.root / "fault", home.root / "faulty.py", home.logs / "faulty.log"
    fault.touch()
    script.write_text(FAULTY)
    faulty = Program("faulty", [sys.executable, str(script), str(fault)])
    supervisor.update([program(home, "first"), faulty])
    supervisor.start_program("faulty")
    await until(lambda: log.exists() and log.read_text().count("tried") >= 3, timeout_s=60)
    fault.unlink()
    await until(lambda: log.read_text().endswith("well\n"), timeout_s=60)
    await running(supervisor, "faulty")
