"""The file .env, from which Compose fills in the variables of compose.yaml."""

import os
from collections.abc import Mapping
from pathlib import Path

from mesh_cli.errors import CliError
from mesh_cli.local.home import write_private


class EnvFile:
    """Lines NAME=value; others, comments among them, are left as they are."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> str:
        """Value of a variable, or an empty text. Raises CliError."""
        values = [line.partition("=")[2] for line in self._lines() if _name(line) == name]
        return values[-1].strip().strip("\"'") if values else ""

    def set(self, name: str, value: str) -> None:
        """Change a variable where it stands, or add it. Raises CliError."""
        line = f"{name}={value}"
        lines = [line if _name(old) == name else old for old in self._lines()]
        self._write(lines if line in lines else [*lines, line])

    def add_missing(self, values: Mapping[str, str]) -> dict[str, str]:
        """Add the variables that are not there; returns those. Raises CliError."""
        lines = self._lines()
        present = {_name(line) for line in lines}
        missing = {name: value for name, value in values.items() if name not in present}
        if missing:
            self._write([*lines, *(f"{name}={value}" for name, value in missing.items())])
        return missing

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure(error) from error

    def _write(self, lines: list[str]) -> None:
        try:
            before = self._path.stat() if self._path.exists() else None
            write_private(self._path, "".join(f"{line}\n" for line in lines))
            if before is not None and os.geteuid() == 0:
                # What `sudo mesh scale` changed is still the operator's to read.
                os.chown(self._path, before.st_uid, before.st_gid)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> CliError:
        return CliError(
            f"{self._path} cannot be read and written ({error.strerror}): "
            "run `mesh` as the user who owns that folder"
        )


def _name(line: str) -> str:
    """Name of the variable of a line; empty for a comment and the like."""
    name, equals, _ = line.strip().removeprefix("export ").partition("=")
    return name.strip() if equals and not name.startswith("#") else ""
