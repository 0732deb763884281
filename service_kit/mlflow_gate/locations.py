"""Where callers say that files lie: only on the artifact server, never in a folder of MLflow."""

import json
from typing import Any

from service_kit.mlflow_gate.routes import EXPERIMENT, VERSION

# The fields in which the two routes take a place, in both of the spellings that MLflow reads.
FIELDS = {
    EXPERIMENT: ("artifact_location", "artifactLocation"),
    VERSION: ("source",),
}
# A logged model, a run and a file of MLflow itself: MLflow knows their places.
_KNOWN = {
    EXPERIMENT: ("mlflow-artifacts:/",),
    VERSION: ("models:/", "runs:/", "mlflow-artifacts:/"),
}


class BadPlace(Exception):
    """A request names a place that nobody may name; the text says so to its sender."""


class Places:
    """Checks bodies of the routes in FIELDS."""

    def __init__(self, artifact_root: str) -> None:
        """`artifact_root`: URL below which the artifact server has the files; empty: MLflow itself
        serves them."""
        self._root = artifact_root.rstrip("/") + "/" if artifact_root else ""

    def checked(self, path: str, body: bytes) -> bytes:
        """Return the body of a request as it was understood, so that MLflow cannot understand it
        otherwise. Raises BadPlace."""
        values = _object(body)
        for field in FIELDS[path]:
            place = values.get(field)
            if place not in (None, "") and not self._is_known(path, place):
                raise BadPlace(
                    f"{field} is {str(place)[:100]!r}: files lie on the mesh's artifact server"
                    " only; leave the field out, or begin it with one of"
                    f" {', '.join(self._beginnings(path))}"
                )
        return json.dumps(values).encode()

    def _beginnings(self, path: str) -> tuple[str, ...]:
        return (*_KNOWN[path], self._root) if self._root else _KNOWN[path]

    def _is_known(self, path: str, place: Any) -> bool:
        if not isinstance(place, str) or ".." in place or "%" in place or "\\" in place:
            return False
        # mlflow-artifacts://HOST/ is another server.
        return place.startswith(self._beginnings(path)) and "://" not in place.removeprefix(
            self._root or "\0"
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
        # MLflow takes JSON in a JSON string as well, as old clients sent it.
        values = json.loads(values) if isinstance(values, str) else values
    except ValueError as error:
        raise BadPlace(f"the body is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadPlace("the body is no JSON object")
    return values
