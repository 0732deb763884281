"""The token that a part of the mesh sends to MLflow."""

from collections.abc import Generator
from pathlib import Path

import httpx

from service_kit.files.watching import WatchedFile
from service_kit.settings import MlflowSettings


class MlflowToken(httpx.Auth):
    """Reads a file, again when it changes, and adds the token in it to requests.

    Only MLflow and its artifact server get it: the registry says where files lie, and whoever wrote
    that may have named a server of their own.
    """

    def __init__(self, path: Path, *urls: str) -> None:
        """`urls`: those of the servers that get the token."""
        self._file = WatchedFile(path, str.strip, "")
        self._origins = {_origin(httpx.URL(url)) for url in urls if url}

    @classmethod
    def of(cls, settings: MlflowSettings) -> "MlflowToken | None":
        """Return the token that the settings name; None: they name none."""
        if settings.mlflow_token_file is None:
            return None
        return cls(settings.mlflow_token_file, settings.mlflow_url, settings.mlflow_artifacts_url)

    @property
    def text(self) -> str:
        """The token; while the file cannot be read the one before, and empty without one."""
        return self._file.read()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        if _origin(request.url) in self._origins and (token := self.text):
            request.headers["authorization"] = f"Bearer {token}"
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
