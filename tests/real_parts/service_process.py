"""Starts a service as a process of its own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path


async def start_module(
    module: str, *arguments: str, environment: Mapping[str, str], log: Path
) -> asyncio.subprocess.Process:
    """Start `python -m module …` and append its output to `log`; the caller ends the process."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
