"""What a test process starts is stopped, also when the process is killed."""

import asyncio
import os
import sys
from pathlib import Path

from tests.real_parts.orphan_watch import run_if_orphaned
from tests.real_parts.waiting import until

HOLD = """
import os, sys, time
from tests.real_parts.orphan_watch import run_if_orphaned
with run_if_orphaned(["touch", sys.argv[1]], os.environ):
    print("holds", flush=True)
    time.sleep(600)
"""


async def test_the_command_runs_when_the_process_is_killed(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, stopped, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"holds\n"
    assert not stopped.exists()
    process.kill()
    await process.wait()
    await until(stopped.exists)


def test_the_command_does_not_run_after_the_block(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    with run_if_orphaned(["touch", stopped], os.environ):
        assert not stopped.exists()
    assert not stopped.exists()
