"""Airflow's public REST API (v2), with a token from `/auth/token`; SimpleAuthManager gives one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from service_kit.errors import Unavailable
from trigger_svc.bridge.airflow import Foreign, Refused, Run, RunState, key_of
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
        self._dag = f"/api/v2/dags/{settings.dag_id}"
        self._runs = f"{self._dag}/dagRuns"
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=settings.airflow_url, timeout=REQUEST_TIMEOUT_S, transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already. Raises Refused, Foreign or Unavailable."""
        body = {"dag_run_id": run.id, "logical_date": None, "conf": run.conf}
        response = await self._call("POST", self._runs, json=body)
        if response.status_code != 409:
            _check_accepted(response)
        # 409: a run of this id exists. It is this one when an earlier attempt, whose answer got
        # lost, has started it; but an id that was given twice, because the database was restored,
        # names another batch's run.
        elif await self.run_state(run.id, run.key) is RunState.GONE:
            raise Unavailable(f"Airflow has just deleted the run {run.id}")

    async def restart_run(self, run_id: str) -> None:
        """Run all tasks of a run that has ended again. Raises Refused or Unavailable."""
        # `only_failed` would leave tasks out: when a run takes too long, Airflow marks its
        # remaining tasks as skipped, not as failed.
        body = {"dry_run": False, "only_failed": False}
        _check_accepted(await self._call("POST", f"{self._runs}/{run_id}/clear", json=body))

    async def run_state(self, run_id: str, key: str) -> RunState:
        """Return the state of the run. Raises Foreign or Unavailable."""
        response = await self._call("GET", f"{self._runs}/{run_id}")
        if response.status_code == 404:
            return RunState.GONE
        _check_answered(response)
        if key_of(_document(response).get("conf")) != key:
            raise Foreign(run_id)
        return _STATES.get(_field(response, "state"), RunState.ACTIVE)

    async def failed_tasks(self, run_id: str) -> list[str]:
        """Return the ids of the run's tasks that failed. Raises Unavailable."""
        response = await self._call("GET", f"{self._runs}/{run_id}/taskInstances")
        _check_answered(response)
        tasks = _document(response).get("task_instances") or []
        return [str(task.get("task_id")) for task in tasks if task.get("state") == "failed"]

    async def is_paused(self) -> bool:
        """Return whether the DAG is paused. Raises Unavailable."""
        response = await self._call("GET", self._dag)
        if response.status_code == 404:
            return False  # Airflow has not read the file of the DAG yet
        _check_answered(response)
        return bool(_document(response).get("is_paused"))

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


def _check_answered(response: httpx.Response) -> None:
    if not response.is_success:
        raise Unavailable(f"Airflow answered {response.status_code}: {_detail(response)}")


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


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        return dict(response.json())
    except (ValueError, TypeError) as error:
        raise Unavailable(f"the answer is not one of Airflow's: {response.text[:60]!r}") from error


def _field(response: httpx.Response, name: str) -> str:
    try:
        return str(_document(response)[name])
    except KeyError as error:
        raise Unavailable(f"the answer is not one of Airflow's: {response.text[:60]!r}") from error


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    return str(detail)[:_SHOWN_CHARACTERS]
