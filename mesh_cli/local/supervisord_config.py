"""The configuration file of a local mesh's supervisord."""

import os
from collections.abc import Iterable, Mapping
from configparser import RawConfigParser
from dataclasses import dataclass, field
from io import StringIO

from mesh_cli.local.home import MeshHome

# supervisord_main.py keeps the count of failed starts below this, so no program is ever given up.
START_RETRIES = 1_000
_LOG_BYTES = "10MB"
_LOG_BACKUPS = 3


@dataclass(frozen=True)
class Program:
    """A process that supervisord keeps running."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_wait_s: int = 30
    signal_group: bool = True
    """Whether the stop signal goes to the program's children as well."""


def config_text(home: MeshHome, programs: Iterable[Program]) -> str:
    """Text of supervisord.conf for the mesh in `home` with these programs."""
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": home.supervisord_socket, "chmod": "0600"},
        "supervisord": {
            "logfile": home.supervisord_log,
            "logfile_maxbytes": _LOG_BYTES,
            "logfile_backups": _LOG_BACKUPS,
            "pidfile": home.run / "supervisord.pid",
            "directory": home.root,
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    if os.geteuid() == 0:
        # supervisord warns when root starts it and the configuration names no user.
        sections["supervisord"]["user"] = "root"
    for program in programs:
        sections[f"program:{program.name}"] = _program_section(home, program)
    parser = RawConfigParser()
    parser.read_dict(sections)
    text = StringIO()
    parser.write(text)
    # supervisord expands `%(name)s` in values, and reads `%%` as a percent sign.
    return text.getvalue().replace("%", "%%")


def _program_section(home: MeshHome, program: Program) -> dict[str, object]:
    return {
        "command": " ".join(_quoted(word) for word in program.command),
        "environment": ",".join(f'{name}="{value}"' for name, value in program.environment.items()),
        "autostart": "false",
        "autorestart": "true",
        "startretries": START_RETRIES,
        "startsecs": 1,
        "stopsignal": program.stop_signal,
        "stopwaitsecs": program.stop_wait_s,
        "stopasgroup": str(program.signal_group).lower(),
        "killasgroup": "true",
        "redirect_stderr": "true",
        # supervisord expands this value twice.
        "stdout_logfile": str(home.logs / f"{program.name}.log").replace("%", "%%"),
        "stdout_logfile_maxbytes": _LOG_BYTES,
        "stdout_logfile_backups": _LOG_BACKUPS,
    }


def _quoted(word: str) -> str:
    """A word of a command, as supervisord reads it by shlex."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
