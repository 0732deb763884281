"""Remembers which versions this replica served last; it starts with them while MLflow is away."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from inference_svc.versions.identity import VersionId

log = logging.getLogger(__name__)


class RememberedVersions:
    """A small JSON file with the version of each model; it is always replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, VersionId]:
        """Return the versions by model; none when the file is missing or damaged."""
        try:
            content = json.loads(self._path.read_text())
            return {
                str(name): VersionId(str(version["version"]), str(version["source"]))
                for name, version in content["serving"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("unreadable, ignored", extra={"file": str(self._path)})
            return {}

    def write(self, versions: Mapping[str, VersionId]) -> None:
        """Replace the file. Raises OSError."""
        serving = {
            name: {"version": version.number, "source": version.source}
            for name, version in versions.items()
        }
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"serving": serving}, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
