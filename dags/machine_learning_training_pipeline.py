"""One turn of the loop: train on the model's rows, then let the fleet serve the better version.

The trigger service starts a run for each batch, under the batch's id. By hand, `model` is enough.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import mesh_slack as slack
import mesh_steps
from airflow.sdk import DAG, Param, PokeReturnValue, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mesh.client import MeshClient
from mesh.errors import FailedPrecondition, InvalidArgument, NotFound

# Errors that stay however often a task is tried, so the task fails at once.
LASTING_ERRORS = (FailedPrecondition, InvalidArgument, NotFound)
WHOLE_NUMBER = {"type": "integer", "minimum": 0}

# A task that follows a training holds one of Airflow's slots, and the training service trains one
# model at a time. So at most two runs follow a training at once: while one model trains, the next
# one waits behind it, and the other slots stay free for the switch of a model that is finished.
FOLLOWED_AT_ONCE = 2
SHORT = timedelta(minutes=20)  # for tasks that only call; longer than the patience of one call
# Seconds between two looks at a canary, which holds no slot meanwhile.
CANARY_POKE_S = 10.0
# When slots are scarce, a finished model's switch comes first and new trainings come last.
SWITCH_FIRST = {"priority_weight": 100, "weight_rule": "absolute"}
PREPARE_NEXT = {"priority_weight": 10, "weight_rule": "absolute"}
TRAIN_LAST = {"priority_weight": 1, "weight_rule": "absolute"}


def _params() -> dict[str, Any]:
    return dict(get_current_context()["params"])


def _request_id() -> str:
    context = get_current_context()
    return str(context["params"]["batch_id"] or context["run_id"])


def _notify_failure(context: dict[str, Any]) -> None:
    run_id = context["run_id"]
    # The dag-processor may call this without the run's parameters.
    request_id = context.get("params", {}).get("batch_id") or run_id
    with MeshClient() as client:
        job = mesh_steps.training_of(client, request_id)
    slack.notify(slack.failure_text(run_id, context["reason"], job))


@task(task_id="Training_Data_Update", execution_timeout=SHORT, **PREPARE_NEXT)
def training_data_update() -> dict[str, int]:
    """Count the model's rows. Fails the run when there are none to train on."""
    model = _params()["model"]
    with MeshClient() as client:
        try:
            dataset = mesh_steps.patiently(lambda: client.get_dataset(model))
        except LASTING_ERRORS as error:
            raise AirflowFailException(str(error)) from error
    if not dataset.rows.train:
        raise AirflowFailException(f"{model} has no rows to train on")
    return {"train": dataset.rows.train, "test": dataset.rows.test, "labels": len(dataset.labels)}


# No execution_timeout: mesh_steps limits the time for which the job itself trains.
@task(task_id="Train_Model", max_active_tis_per_dag=FOLLOWED_AT_ONCE, **TRAIN_LAST)
def train_model() -> dict[str, Any]:
    """Submit the run's training job, or find it, and follow it to its end."""
    values = _params()
    _cancel_when_killed()
    with MeshClient() as client:
        try:
            job = mesh_steps.train(
                client,
                values["model"],
                _request_id(),
                mesh_steps.train_params(values),
                promotion=mesh_steps.promotion(client, values["model"], _steps()),
            )
        except (*LASTING_ERRORS, mesh_steps.TrainingEnded) as error:
            raise AirflowFailException(str(error)) from error
    return mesh_steps.outcome(job)


@task.sensor(
    task_id="Switch_Latest_Model",
    mode="reschedule",
    poke_interval=CANARY_POKE_S,
    execution_timeout=SHORT,  # of each look
    **SWITCH_FIRST,
)
def switch_latest_model() -> PokeReturnValue:
    """Have the fleet serve the Champion that this run made, or run the Challenger's canary.

    Skipped when the Champion stays. Looks again every CANARY_POKE_S seconds while a canary runs.
    """
    trained = _trained()
    model, request_id, steps = _params()["model"], _request_id(), _steps()
    if not trained["promoted"] and not (
        steps and trained["better"] and trained["champion_version"]
    ):
        raise AirflowSkipException(f"the Champion stays: {trained['reason']}")
    with MeshClient() as client:
        if not trained["promoted"]:
            seconds = _params()["canary_step_seconds"]
            try:
                canary = mesh_steps.canary(client, model, request_id, steps, seconds)
            except LASTING_ERRORS as error:
                raise AirflowFailException(str(error)) from error
            return PokeReturnValue(canary is not None, canary)
        answer = mesh_steps.patiently(lambda: client.reload(model, request_id=request_id))
    switched = {"from_version": answer.from_version, "to_version": answer.to_version}
    return PokeReturnValue(True, switched)


# A skipped switch is a good end. After a failed task this last task does not run, because its
# success would turn the failed run green; the run's failure callback notifies Slack instead.
@task(
    task_id="Notify",
    trigger_rule=TriggerRule.NONE_FAILED,
    retries=0,
    execution_timeout=SHORT,
    **SWITCH_FIRST,
)
def notify() -> bool:
    """Tell Slack, if a webhook is set, how the run ended."""
    switched = get_current_context()["ti"].xcom_pull(task_ids="Switch_Latest_Model")
    return slack.notify(slack.success_text(_params()["model"], _trained(), switched))


def _cancel_when_killed() -> None:
    """Have Airflow's signal to end this task, as when its run is marked as failed, cancel the job.

    Only for runs by hand. A stop of Airflow sends the same signal, and of a batch the training
    service sees by itself whether its run has ended.
    """
    context = get_current_context()
    if context["params"]["batch_id"]:
        return
    request_id = _request_id()

    def cancel() -> None:
        with MeshClient() as client:
            mesh_steps.cancel(client, request_id)

    context["task"].on_kill = cancel


def _steps() -> list[int]:
    return mesh_steps.canary_steps(_params()["canary"])


def _trained() -> dict[str, Any]:
    trained: dict[str, Any] = get_current_context()["ti"].xcom_pull(task_ids="Train_Model")
    return trained


with DAG(
    dag_id="machine-learning-training-pipeline",
    description="Trains a model on its rows and serves the new version if it is better.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # No dagrun_timeout, which would count the time that a run waits: each task has limits instead.
    max_active_runs=32,
    on_failure_callback=_notify_failure,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags={"champion-mesh"},
    params={
        "model": Param(type="string", pattern="^[a-z][a-z0-9_]{0,39}$", description="Model."),
        "batch_id": Param("", type="string", description="Batch; empty: the run's id is used."),
        "reason": Param("", type="string", description="Why the batch was sealed."),
        "rows": Param(0, **WHOLE_NUMBER, description="Rows in the batch."),
        "base_model": Param(
            "", type="string", description="A name of TRAINING_BASE_MODELS; empty: its default."
        ),
        "epochs": Param(0, **WHOLE_NUMBER, description="0: chosen by the number of rows."),
        "batch_size": Param(0, **WHOLE_NUMBER, description="0: chosen by the service."),
        "learning_rate": Param(0, type="number", minimum=0, description="0: by the service."),
        "max_length": Param(0, **WHOLE_NUMBER, description="Tokens; 0: chosen by the service."),
        "seed": Param(0, **WHOLE_NUMBER, description="Seed of the random numbers."),
        "warm_start": Param(False, type="boolean", description="Start from the Champion."),
        "max_examples": Param(
            0, **WHOLE_NUMBER, description="Newest rows to train on; 0: by the service."
        ),
        "canary": Param(
            "",
            type="string",
            pattern="^([0-9]+(,[0-9]+)*)?$",
            description='Shares of a canary, percent, as in "5,25,50"; empty: no canary.',
        ),
        "canary_step_seconds": Param(
            30, type="number", minimum=1, description="Seconds that each share lasts."
        ),
    },
):
    training_data_update() >> train_model() >> switch_latest_model() >> notify()
