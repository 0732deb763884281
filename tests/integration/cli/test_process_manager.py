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
from mesh_cli.local.process_manager import ProcessManager
from mesh_cli.local.supervisord_config import Program
from tests.real_parts.waiting import until

# Prints its greeting, and "stopping" when it is asked to stop.
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
    home = MeshHome(tmp_path / "100 % mesh")
    home.make_folders()
    return home


@pytest.fixture
def manager(home: MeshHome) -> Iterator[ProcessManager]:
    manager = ProcessManager(home)
    manager.start([program(home, "first")], {"MESH_RUN_ID": "test"})
    yield manager
    manager.stop(last="first")


async def running(manager: ProcessManager, name: str) -> int:
    await until(lambda: manager.programs()[name]["statename"] == "RUNNING")
    pid: int = manager.programs()[name]["pid"]
    return pid


async def test_a_program_joins_and_leaves_beside_one_that_runs_on(
    home: MeshHome, manager: ProcessManager
) -> None:
    manager.start_program("first")
    first = await running(manager, "first")

    manager.update([program(home, "first"), program(home, "second")])
    assert manager.programs()["second"]["statename"] == "STOPPED"
    manager.start_program("second")
    second = await running(manager, "second")
    assert psutil.Process(second).environ()["MESH_RUN_ID"] == "test"
    log = home.logs / "second.log"
    assert log.read_text() == "at 100 %\n"

    assert manager.stop_programs(["second"]) == []
    assert not psutil.pid_exists(second)
    manager.update([program(home, "first")])
    assert set(manager.programs()) == {"first"}
    assert log.read_text().endswith("stopping\n")
    assert await running(manager, "first") == first


async def test_a_program_comes_back_as_it_is_described_now(
    home: MeshHome, manager: ProcessManager
) -> None:
    for greeting in ("one", "two"):
        manager.update([program(home, "first"), program(home, "second", greeting)])
        manager.start_program("second")
        await running(manager, "second")
        manager.stop_programs(["second"])
        manager.update([program(home, "first")])
    assert (home.logs / "second.log").read_text() == "one\nstopping\ntwo\nstopping\n"


async def test_a_program_that_runs_is_not_forgotten(manager: ProcessManager) -> None:
    manager.start_program("first")
    pid = await running(manager, "first")
    with pytest.raises(CliError, match="STILL_RUNNING"):
        manager.update([])
    os.kill(pid, 0)


async def test_a_program_that_does_not_stop_in_time_is_named(
    home: MeshHome, manager: ProcessManager
) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    stubborn = Program("stubborn", [sys.executable, "-c", deaf], stop_wait_s=1)
    manager.update([program(home, "first"), stubborn])
    manager.start_program("stubborn")
    await running(manager, "stubborn")
    assert manager.stop_programs(["stubborn"], timeout_s=0) == ["stubborn"]
    # supervisord kills it after stop_wait_s.
    assert manager.stop_programs(["stubborn"], timeout_s=10) == []


async def test_a_killed_program_runs_again_at_once(manager: ProcessManager) -> None:
    parent = psutil.Process(manager.pid())
    manager.start_program("first")
    taken = []
    for _ in range(4):
        killed = await running(manager, "first")
        os.kill(killed, signal.SIGKILL)
        moment = time.monotonic()
        # A call to supervisord would wake its loop, so the test looks at the process tree.
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
    home: MeshHome, manager: ProcessManager
) -> None:
    script = home.root / "parent.py"
    script.write_text(PARENT)
    parent = Program("parent", [sys.executable, str(script)])
    manager.update([program(home, "first"), parent])
    manager.start_program("parent")
    killed = await running(manager, "parent")
    log = home.logs / "parent.log"
    await until(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    os.kill(killed, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(child))
    await until(lambda: manager.programs()["parent"]["pid"] not in (0, killed))


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
    home: MeshHome, manager: ProcessManager
) -> None:
    fault, script, log = home.root / "fault", home.root / "faulty.py", home.logs / "faulty.log"
    fault.touch()
    script.write_text(FAULTY)
    faulty = Program("faulty", [sys.executable, str(script), str(fault)])
    manager.update([program(home, "first"), faulty])
    manager.start_program("faulty")
    await until(lambda: log.exists() and log.read_text().count("tried") >= 3, timeout_s=60)
    fault.unlink()
    await until(lambda: log.read_text().endswith("well\n"), timeout_s=60)
    await running(manager, "faulty")
