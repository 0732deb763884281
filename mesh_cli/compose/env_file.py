"""The file .env, from which Compose fills in the variables of compose.yaml."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values, set_key

from mesh_cli.errors import CliError


class EnvFile:
    """Variables of a .env file, read as Compose reads them.

    A change keeps comments and the order of lines; blank lines just above the variable go.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> str:
        """Value of a variable, or an empty text. Raises CliError."""
        return self._values().get(name) or ""

    def set(self, name: str, value: str) -> None:
        """Change a variable where it stands, or add it. Raises CliError."""
        try:
            before = self._path.stat() if self._path.exists() else None
            # A value of letters and digits stays without quotes.
            set_key(self._path, name, value, quote_mode="auto")
            self._path.chmod(0o600)
            if before is not None and os.geteuid() == 0:
                # The rewritten file is root's after `sudo mesh scale`; its owner needs it back.
                os.chown(self._path, before.st_uid, before.st_gid)
        except OSError as error:
            raise self._failure(error) from error

    def add_missing(self, values: Mapping[str, str]) -> dict[str, str]:
        """Add the variables that have no value yet; returns those. Raises CliError."""
        present = self._values()
        missing = {name: value for name, value in values.items() if present.get(name) is None}
        for name, value in missing.items():
            self.set(name, value)
        return missing

    def _values(self) -> dict[str, str | None]:
        try:
            return dotenv_values(self._path)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> CliError:
        return CliError(
            f"{self._path} cannot be read and written ({error.strerror}): "
            "run `mesh` as the user who owns that folder"
        )
