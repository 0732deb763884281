"""Starts supervisord, which runs the processes of a local mesh, and speaks to it."""

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from mesh_cli.errors import CliError
from mesh_cli.local.home import MeshHome, write_private
from mesh_cli.local.supervisord_config import Program, config_text

RUN_ID_VARIABLE = "MESH_RUN_ID"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
STOPPING = "STOPPING"
STOPPED = ("STOPPED", "EXITED", "FATAL")


class ProcessManager:
    """A client of the supervisord of one mesh. Its methods raise CliError when that refuses."""

    def __init__(self, home: MeshHome) -> None:
        self._home = home

    def pid(self) -> int | None:
        """Process id of the running supervisord, or None."""
        try:
            pid: int = self._call("supervisor.getPID")
        except OSError:
            return None
        return pid

    def start(self, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord with these programs, none of which runs yet."""
        write_private(self._home.supervisord_config, config_text(self._home, programs))
        command = [sys.executable, "-m", "mesh_cli.local.supervisord_main"]
        result = subprocess.run(
            [*command, "-c", str(self._home.supervisord_config)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.pid() is None:
            if result.returncode or time.monotonic() > deadline:
                raise CliError(
                    f"supervisord did not start; see {self._home.supervisord_log}\n"
                    f"{result.stderr.strip()}"
                )
            time.sleep(POLL_S)

    def start_program(self, name: str) -> None:
        """Start one program; returns at once."""
        self._call("supervisor.startProcess", name, False)

    def update(self, programs: Iterable[Program]) -> None:
        """Make these the programs that supervisord has, without touching those that run.

        New ones are not started. Raises CliError when one that is left out still runs.
        """
        write_private(self._home.supervisord_config, config_text(self._home, programs))
        [[added, _, removed]] = self._call("supervisor.reloadConfig")
        for name in removed:
            self._call("supervisor.removeProcessGroup", name)
        for name in added:
            self._call("supervisor.addProcessGroup", name)

    def stop_programs(self, names: Container[str], timeout_s: float = STOP_TIMEOUT_S) -> list[str]:
        """Stop programs, all at the same time; return those that still run after `timeout_s`."""
        for name, state in self._running(names).items():
            if state != STOPPING:
                self._call("supervisor.stopProcess", name, False)
        deadline = time.monotonic() + timeout_s
        while (left := self._running(names)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return list(left)

    def programs(self) -> dict[str, dict[str, Any]]:
        """State of every program by name: statename, pid, spawnerr, …"""
        states: list[dict[str, Any]] = self._call("supervisor.getAllProcessInfo")
        return {info["name"]: info for info in states}

    def stop(self, last: str) -> None:
        """Stop every program, `last` after the others, then supervisord; wait for all.

        supervisord's own shutdown would stop one program after another.
        """
        pid = self.pid()
        if pid is None:
            return
        process = psutil.Process(pid)
        # supervisord's shutdown kills the programs that do not stop in time here.
        self.stop_programs(self.programs().keys() - {last})
        self._call("supervisor.shutdown")
        try:
            process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            raise CliError(f"supervisord (process {pid}) has not stopped yet") from None

    def _running(self, names: Container[str]) -> dict[str, str]:
        return {
            name: info["statename"]
            for name, info in self.programs().items()
            if name in names and info["statename"] not in STOPPED
        }

    def _call(self, method: str, *arguments: Any) -> Any:
        with xmlrpc.client.ServerProxy(
            "http://localhost", transport=_UnixTransport(self._home.supervisord_socket)
        ) as server:
            try:
                return getattr(server, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                raise CliError(f"supervisord refused: {fault.faultString}") from fault


def stop_leftovers(run_id: str) -> list[int]:
    """Stop the processes of a run that outlived a killed supervisord; returns their process ids.

    A process belongs to the run when its environment carries the run's id; names are not looked at.
    """
    marker = (RUN_ID_VARIABLE, run_id)
    leftovers = []
    for process in psutil.process_iter():
        try:
            if marker in process.environ().items() and process.pid != os.getpid():
                leftovers.append(process)
        except psutil.Error:
            continue  # the process has ended, or it is another user's
    for process in leftovers:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(leftovers, timeout=10)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=5)
    return [process.pid for process in leftovers]


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=STOP_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        # The base class closes the connection that it finds in this field.
        self._connection = host, connection
        return connection
