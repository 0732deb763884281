"""Calls to Airflow's REST API and how its answers are understood."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service_kit.errors import Unavailable
from trigger_svc.bridge.airflow import KEY, Foreign, Refused, Run, RunState
from trigger_svc.bridge.airflow_http import HttpAirflow
from trigger_svc.settings import TriggerSettings

Handler = Callable[[httpx.Request], httpx.Response]
RUN = Run("retrain__reviews__7", {"model": "reviews"})


class FakeAirflow:
    """Gives out tokens and answers API calls with `answers` in turn, then with the last one."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.logins: list[dict[str, str]] = []
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            self.logins.append(json.loads(request.content))
            return httpx.Response(201, json={"access_token": f"token-{len(self.logins)}"})
        self.calls.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def client(handler: Handler, **values: object) -> HttpAirflow:
    chosen = {"airflow_password": "secret"} | values
    settings = TriggerSettings(airflow_url="http://airflow", **chosen)  # type: ignore[arg-type]
    return HttpAirflow(settings, httpx.MockTransport(handler))


async def test_a_run_is_posted_under_its_id_with_no_logical_date() -> None:
    fake = FakeAirflow(httpx.Response(200, json={}))
    await client(fake).start_run(RUN)
    path = "/api/v2/dags/machine-learning-training-pipeline/dagRuns"
    assert fake.calls[0].url.path == path
    assert fake.calls[0].headers["authorization"] == "Bearer token-1"
    assert json.loads(fake.calls[0].content) == {
        "dag_run_id": RUN.id,
        "logical_date": None,
        "conf": {"model": "reviews"},
    }


async def test_a_run_that_is_there_already_is_accepted_when_it_is_the_same_batchs() -> None:
    there = httpx.Response(409, json={"detail": {}})
    mine = httpx.Response(200, json={"state": "running", "conf": {KEY: "mine"}})
    run = Run(RUN.id, {KEY: "mine"})
    await client(FakeAirflow(there, mine)).start_run(run)
    with pytest.raises(Foreign):
        await client(FakeAirflow(there, mine)).start_run(RUN)
    with pytest.raises(Foreign):
        await client(FakeAirflow(mine)).run_state(RUN.id, "another")


@pytest.mark.parametrize("conf", [None, {}, {"model": "reviews"}])
async def test_a_run_of_an_earlier_release_has_no_key(conf: dict[str, str] | None) -> None:
    fake = FakeAirflow(httpx.Response(200, json={"state": "running", "conf": conf}))
    assert await client(fake).run_state(RUN.id, "") is RunState.ACTIVE
    with pytest.raises(Foreign):
        await client(fake).run_state(RUN.id, "mine")


async def test_a_run_that_was_deleted_meanwhile_is_posted_again_later() -> None:
    fake = FakeAirflow(httpx.Response(409, json={"detail": {}}), httpx.Response(404))
    with pytest.raises(Unavailable, match="has just deleted"):
        await client(fake).start_run(RUN)


@pytest.mark.parametrize(
    ("answer", "paused"),
    [
        (httpx.Response(200, json={"is_paused": True}), True),
        (httpx.Response(200, json={"is_paused": False}), False),
        (httpx.Response(404, json={"detail": "not parsed yet"}), False),
    ],
)
async def test_a_paused_dag_is_seen(answer: httpx.Response, paused: bool) -> None:
    fake = FakeAirflow(answer)
    assert await client(fake).is_paused() is paused
    assert fake.calls[0].url.path == "/api/v2/dags/machine-learning-training-pipeline"


async def test_the_tasks_that_failed_are_read() -> None:
    tasks = [{"task_id": "Train_Model", "state": "failed"}, {"task_id": "Notify", "state": None}]
    fake = FakeAirflow(httpx.Response(200, json={"task_instances": tasks}))
    assert await client(fake).failed_tasks(RUN.id) == ["Train_Model"]
    assert fake.calls[0].url.path.endswith(f"/dagRuns/{RUN.id}/taskInstances")


async def test_a_run_begins_again_with_all_its_tasks() -> None:
    fake = FakeAirflow(httpx.Response(200, json={}))
    await client(fake).restart_run(RUN.id)
    assert fake.calls[0].url.path.endswith(f"/dagRuns/{RUN.id}/clear")
    assert json.loads(fake.calls[0].content) == {"dry_run": False, "only_failed": False}


@pytest.mark.parametrize(("status", "error"), [(422, Refused), (404, Unavailable)])
async def test_a_refused_restart_is_told_from_one_that_may_work_later(
    status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client(FakeAirflow(httpx.Response(status, text="…"))).restart_run(RUN.id)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bad_token_is_renewed_once(status: int) -> None:
    fake = FakeAirflow(httpx.Response(status), httpx.Response(200, json={}))
    await client(fake).start_run(RUN)
    assert len(fake.logins) == 2
    assert fake.calls[1].headers["authorization"] == "Bearer token-2"


async def test_a_token_that_is_always_refused_makes_the_batch_wait() -> None:
    fake = FakeAirflow(httpx.Response(401, json={"detail": "no"}))
    with pytest.raises(Unavailable, match="401: no"):
        await client(fake).start_run(RUN)
    assert len(fake.logins) == 2


@pytest.mark.parametrize("status", [404, 405, 429, 500, 502, 503])
async def test_an_error_that_may_pass_makes_the_batch_wait(status: int) -> None:
    with pytest.raises(Unavailable, match=str(status)):
        await client(FakeAirflow(httpx.Response(status, text="…"))).start_run(RUN)


@pytest.mark.parametrize("status", [400, 422])
async def test_a_run_that_airflow_will_never_accept_is_refused_with_the_reason(status: int) -> None:
    answer = httpx.Response(status, json={"detail": "model does not match the pattern"})
    with pytest.raises(Refused, match="model does not match the pattern"):
        await client(FakeAirflow(answer)).start_run(RUN)


async def test_a_dag_with_import_errors_makes_the_batch_wait_for_its_repair() -> None:
    detail = "Dag with dag_id: 'x' has import errors and cannot be triggered"
    with pytest.raises(Unavailable, match="import errors"):
        await client(FakeAirflow(httpx.Response(400, json={"detail": detail}))).start_run(RUN)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.ReadError("")]
)
async def test_airflow_away_is_unavailable(error: httpx.HTTPError) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unavailable, match="Airflow is away"):
        await client(away).start_run(RUN)


async def test_something_else_at_airflows_address_is_unavailable() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>")

    with pytest.raises(Unavailable, match="<html>"):
        await client(page).start_run(RUN)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (httpx.Response(200, json={"state": "queued"}), RunState.ACTIVE),
        (httpx.Response(200, json={"state": "running"}), RunState.ACTIVE),
        (httpx.Response(200, json={"state": "success"}), RunState.SUCCEEDED),
        (httpx.Response(200, json={"state": "failed"}), RunState.FAILED),
        (httpx.Response(404, json={"detail": "not found"}), RunState.GONE),
    ],
)
async def test_each_state_of_a_run_is_understood(answer: httpx.Response, state: RunState) -> None:
    assert await client(FakeAirflow(answer)).run_state(RUN.id, "") is state


@pytest.mark.parametrize("text", ['{"admin": "from file"}', "from file\n"])
async def test_the_password_is_read_from_its_file_at_each_login(tmp_path: Path, text: str) -> None:
    file = tmp_path / "passwords.json"
    fake = FakeAirflow(httpx.Response(401), httpx.Response(200, json={}))
    airflow = client(fake, airflow_password_file=file)
    with pytest.raises(Unavailable, match="cannot be read"):
        await airflow.start_run(RUN)
    file.write_text(text)
    await airflow.start_run(RUN)
    assert fake.logins == [{"username": "admin", "password": "from file"}] * 2
