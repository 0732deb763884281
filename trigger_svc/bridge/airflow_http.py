"""Airflow's public REST API (v2), with a token from `/auth/token`; SimpleAuthManager gives one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from service_kit.errors import Unavailable
from trigger_svc.bridge.airflow import Refused, Run, RunState
from trigger_svc.settings import TriggerSettings

REQUEST_TIMEOUT_S = 30.0  # after a cold start the first calls took 10 s on two busy cores
_SHOWN_CHARACTERS = 300
_STATES = {"success": RunState.SUCCEEDED, "failed": RunState.FAILED}
# Airflow answers 401 to an expired token, and 403 to one that was signed with an earlier secret.
_TOKEN_IS_BAD = (401, 403)
_HAS_IMPORT_ERRORS = "has import errors"


class HttpAirflow:
    """The real Airflow."""

    def __init__(
        self, settings: TriggerSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._runs = f"/api/v2/dags/{settings.dag_id}/dagRuns"
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=settings.airflow_url, timeout=REQUEST_TIMEOUT_S, transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already. Raises Refused or Unavailable."""
        body = {"dag_run_id": run.id, "logical_date": None, "conf": run.conf}
        response = await self._call("POST", self._runs, json=body)
        # 409: an earlier attempt, whose answer got lost, has started the run.
        if response.status_code != 409:
            _check_accepted(response)

    async def restart_run(self, run_id: str) -> None:
        """Run all tasks of a run that has ended again. Raises Refused or Unavailable."""
        # `only_failed` would leave tasks out: when a run takes too long, Airflow marks its
        # remaining tasks as skipped, not as failed.
        body = {"dry_run": False, "only_failed": False}
        _check_accepted(await self._call("POST", f"{self._runs}/{run_id}/clear", json=body))

    async def run_state(self, run_id: str) -> RunState:
        """Return the state of the run. Raises Unavailable."""
        response = await self._call("GET", f"{self._runs}/{run_id}")
        if response.status_code == 404:
            return RunState.GONE
        if not response.is_success:
            raise Unavailable(f"Airflow answered {response.status_code}: {_detail(response)}")
        return _STATES.get(_field(response, "state"), RunState.ACTIVE)

    async def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        token = await self._renewed("")
        response = await self._send(token, method, path, **arguments)
        if response.status_code in _TOKEN_IS_BAD:
            token = await self._renewed(token)
            response = await self._send(token, method, path, **arguments)
        return response

    async def _renewed(self, bad: str) -> str:
        """Return a token other than `bad`; callers that need one at the same time share it."""
        async with self._logging_in:
            if self._token in ("", bad):
                self._token = await self._log_in()
            return self._token

    async def _send(self, token: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return await self._http.request(method, path, headers=headers, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"Airflow is away: {error or type(error).__name__}") from error

    async def _log_in(self) -> str:
        user = self._settings.airflow_user
        body = {"username": user, "password": _password(self._settings)}
        try:
            response = await self._http.post("/auth/token", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"Airflow is away: {error or type(error).__name__}") from error
        if not response.is_success:
            raise Unavailable(
                f"Airflow did not log {user} in, {response.status_code}: {_detail(response)}"
            )
        return _field(response, "access_token")


def _check_accepted(response: httpx.Response) -> None:
    if response.is_success:
        return
    problem = f"Airflow answered {response.status_code}: {_detail(response)}"
    if response.status_code in (400, 422) and _HAS_IMPORT_ERRORS not in problem:
        raise Refused(problem)
    raise Unavailable(problem)


def _password(settings: TriggerSettings) -> str:
    file: Path | None = settings.airflow_password_file
    if file is None:
        return settings.airflow_password
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unavailable(f"Airflow's password cannot be read: {error}") from error
    if not text.startswith("{"):
        return text
    passwords: dict[str, str] = json.loads(text)
    return passwords.get(settings.airflow_user, "")


def _field(response: httpx.Response, name: str) -> str:
    try:
        return str(response.json()[name])
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"the answer is not one of Airflow's: {response.text[:60]!r}") from error


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    return str(detail)[:_SHOWN_CHARACTERS]
