"""MLflow's REST API: sends requests and turns refusals into our errors."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from service_kit.errors import MeshError, NotFound, Unavailable

REQUEST_TIMEOUT_S = 5.0
DOWNLOAD_TIMEOUT_S = 60.0
_API = "/api/2.0/mlflow"


class NameTaken(MeshError):
    """MLflow has another thing under this name already."""


class MlflowApi:
    """The API of one server. Every method raises Unavailable when the server is away."""

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        auth: httpx.Auth | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        # httpx would take 0.1 s at every start to read certificates, which only https needs.
        secure = self.url.startswith("https:")
        self._http = httpx.AsyncClient(
            timeout=REQUEST_TIMEOUT_S, transport=transport, verify=secure, auth=auth
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, method: str, path: str, values: Mapping[str, Any]) -> Any:
        """Call a method of the tracking API, for example `registered-models/get`; return its JSON.

        Raises NotFound, NameTaken, and MeshError for any other refusal.
        """
        key = "params" if method == "GET" else "json"
        answer = await self.send(method, f"{self.url}{_API}/{path}", **{key: values})
        return answer.json()

    async def items(
        self, method: str, path: str, key: str, query: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        """Yield the items under `key` of every page of a search. Raises what `call` raises."""
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            answer = await self.call(method, path, {**query, **page})
            for item in answer.get(key, []):
                yield item
            token = answer.get("next_page_token", "")
            if not token:
                return

    async def send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """Send a request to any URL of the server. Raises the same errors as `call`."""
        try:
            response = await self._http.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow is away: {error or type(error).__name__}") from error
        if response.is_success:
            return response
        code, message = _error(response)
        if response.status_code == 404 or code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(message)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise NameTaken(message)
        if response.status_code >= 500 or response.status_code == 429:
            raise Unavailable(f"MLflow answered {response.status_code}: {message}")
        raise MeshError(f"MLflow refused: {message}")

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncIterator[httpx.Response]:
        """Open a download. Raises httpx.HTTPError, also while the body is read."""
        async with self._http.stream("GET", url, timeout=DOWNLOAD_TIMEOUT_S) as response:
            response.raise_for_status()
            yield response


def _error(response: httpx.Response) -> tuple[str, str]:
    try:
        body = response.json()
        return body.get("error_code", ""), body.get("message", "")
    except ValueError:
        return "", response.text[:200]
