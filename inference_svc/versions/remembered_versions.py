"""Remembers which versions this replica served last; it starts with them while MLflow is away."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class RememberedVersions:
    """A small JSON file with the version of each model; it is always replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        """Return {model: version}; it is empty when the file is missing or damaged."""
        try:
            content = json.loads(self._path.read_text())
            return {str(name): str(version) for name, version in content["serving"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("unreadable, ignored", extra={"file": str(self._path)})
            return {}

    def write(self, versions: Mapping[str, str]) -> None:
        """Replace the file. Raises OSError."""
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"serving": dict(versions)}, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
