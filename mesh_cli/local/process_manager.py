"""The process supervisor of a local mesh: supervisord, configured and spoken to by this module."""

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mesh_cli.errors import CliError
from mesh_cli.local.home import MeshHome, write_private

RUN_ID_VARIABLE = "MESH_RUN_ID"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 60.0
# So many are never counted (see supervisord.py): a program may have to wait long for its disk.
_START_RETRIES = 1_000
STOPPING = "STOPPING"
STOPPED = ("STOPPED", "EXITED", "FATAL")
_LOG_BYTES = "10MB"
_LOG_BACKUPS = 3


@dataclass(frozen=True)
class Program:
    """A process to keep running."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_wait_s: int = 30
    signal_group: bool = True
    """Whether the stop signal goes to its children as well."""


class ProcessManager:
    """The supervisord of one mesh."""

    def __init__(self, home: MeshHome) -> None:
        self._home = home
        self._pid_file = home.run / "supervisord.pid"

    def pid(self) -> int | None:
        """Process id of the running supervisord, or None."""
        try:
            state: int = self._call("supervisor.getPID")
        except OSError:
            return None
        return state

    def start(self, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord with these programs, none of which runs yet."""
        write_private(self._home.supervisord_config, self._config(programs))
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
                log = self._home.logs / "supervisord.log"
                raise CliError(f"the supervisor did not start; see {log}\n{result.stderr.strip()}")
            time.sleep(0.05)

    def start_program(self, name: str) -> None:
        """Start one program; returns at once."""
        self._call("supervisor.startProcess", name, False)

    def update(self, programs: Iterable[Program]) -> None:
        """Know exactly these programs from now on, without touching those that run.

        New ones are not started. Raises CliError when one that is left out still runs.
        """
        write_private(self._home.supervisord_config, self._config(programs))
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
            time.sleep(0.05)
        return list(left)

    def programs(self) -> dict[str, dict[str, Any]]:
        """State of every program by name: statename, pid, spawnerr, …"""
        found: list[dict[str, Any]] = self._call("supervisor.getAllProcessInfo")
        return {info["name"]: info for info in found}

    def stop(self, last: str) -> None:
        """Stop every program, `last` after the others, then supervisord; wait for all.

        By itself supervisord would stop one program after the other.
        """
        pid = self.pid()
        if pid is None:
            return
        process = psutil.Process(pid)
        # What is left then is killed by supervisord's own shutdown.
        self.stop_programs(self.programs().keys() - {last})
        self._call("supervisor.shutdown")
        try:
            process.wait(STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            raise CliError(f"the supervisor (process {pid}) has not stopped yet") from None

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
                raise CliError(f"the supervisor refused: {fault.faultString}") from fault

    def _config(self, programs: Iterable[Program]) -> str:
        sections = [
            "[unix_http_server]",
            f"file={_escape(self._home.supervisord_socket)}",
            "chmod=0600",
            "[supervisord]",
            f"logfile={_escape(self._home.logs / 'supervisord.log')}",
            f"logfile_maxbytes={_LOG_BYTES}",
            f"logfile_backups={_LOG_BACKUPS}",
            f"pidfile={_escape(self._pid_file)}",
            f"directory={_escape(self._home.root)}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        if os.geteuid() == 0:
            sections.insert(4, "user=root")  # said, so that it does not warn
        for program in programs:
            sections += self._section(program)
        return "\n".join(sections) + "\n"

    def _section(self, program: Program) -> list[str]:
        environment = ",".join(
            f'{name}="{_escape(value)}"' for name, value in program.environment.items()
        )
        group = str(program.signal_group).lower()
        return [
            f"[program:{program.name}]",
            f"command={' '.join(_quote(_escape(word)) for word in program.command)}",
            f"environment={environment}",
            "autostart=false",
            "autorestart=true",
            f"startretries={_START_RETRIES}",
            "startsecs=1",
            f"stopsignal={program.stop_signal}",
            f"stopwaitsecs={program.stop_wait_s}",
            f"stopasgroup={group}",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escape(self._home.logs / program.name)}.log",
            f"stdout_logfile_maxbytes={_LOG_BYTES}",
            f"stdout_logfile_backups={_LOG_BACKUPS}",
        ]


def stop_leftovers(run_id: str) -> list[int]:
    """Stop the processes that carry this run id; returns their process ids.

    They are there when supervisord itself was killed. Found by their environment, never by name.
    """
    marker = (RUN_ID_VARIABLE, run_id)
    found = []
    for process in psutil.process_iter():
        try:
            if marker in process.environ().items() and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue  # another user's, or gone
    for process in found:
        _signal(process, process.terminate)
    _, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        _signal(process, process.kill)
    psutil.wait_procs(alive, timeout=5)
    return [process.pid for process in found]


def _signal(process: psutil.Process, send: Any) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


def _quote(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
        # Where the base class looks for what it has to close.
        self._connection = host, connection
        return connection
