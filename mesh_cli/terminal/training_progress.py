"""Follows a training job, or a whole turn of the loop, with a progress bar."""

import time

import tenacity
from rich.progress import Progress, TaskID

from mesh.client import MeshClient
from mesh.errors import NotFound, Unavailable
from mesh.v1 import data_pb2, train_pb2
from mesh_cli.errors import CliError
from mesh_cli.terminal import output

POLL_S = 0.5
# A part of the mesh may be restarting while a command follows its work.
PATIENCE_S = 60.0

patiently = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(Unavailable),
    wait=tenacity.wait_fixed(POLL_S),
    stop=tenacity.stop_after_delay(PATIENCE_S),
    reraise=True,
)
"""`patiently(call, *arguments)` repeats a call while the part that answers it is away.

Raises Unavailable after PATIENCE_S.
"""

_ENDED_BATCH = {
    data_pb2.BATCH_STATE_SUCCEEDED,
    data_pb2.BATCH_STATE_FAILED,
    data_pb2.BATCH_STATE_DEAD,
}


def follow_training(client: MeshClient, training_id: str) -> train_pb2.TrainingJob:
    """Show a job until it has ended and return it."""
    with output.progress() as progress:
        task = progress.add_task("training", total=None, note="")
        job = train_pb2.TrainingJob()
        for job in client.watch_training(training_id):
            _show(progress, task, job)
    return job


def follow_batch(client: MeshClient, model: str, batch_id: str) -> data_pb2.Batch:
    """Show a turn of the loop until its run has ended and return its batch."""
    with output.progress() as progress:
        task = progress.add_task(batch_id, total=None, note="sealed")
        while True:
            batch = patiently(find_batch, client, model, batch_id)
            if batch.state in _ENDED_BATCH:
                return batch
            _show_batch(progress, task, client, batch)
            time.sleep(POLL_S)


def state_word(job: train_pb2.TrainingJob) -> str:
    """State of a job as a word for people, for example `running`."""
    return train_pb2.TrainingState.Name(job.state).removeprefix("TRAINING_STATE_").lower()


def find_batch(client: MeshClient, model: str, batch_id: str) -> data_pb2.Batch:
    """One batch. Raises CliError when there is no such batch."""
    for batch in client.list_batches(model):
        if batch.id == batch_id:
            return batch
    raise CliError(f"{model} has no batch {batch_id}")


def _show_batch(
    progress: Progress, task: TaskID, client: MeshClient, batch: data_pb2.Batch
) -> None:
    if batch.state == data_pb2.BATCH_STATE_SEALED:
        progress.update(task, note=batch.error or "waits for Airflow")
        return
    try:
        _show(progress, task, client.get_training(batch.id))
    except NotFound:
        progress.update(task, note="Airflow starts the run")
    except Unavailable:
        progress.update(task, note="the training service does not answer")


def _show(progress: Progress, task: TaskID, job: train_pb2.TrainingJob) -> None:
    state = state_word(job)
    note = state
    total = None
    if job.state == train_pb2.TRAINING_STATE_RUNNING and job.progress.total_steps:
        total = job.progress.total_steps
        note = (
            f"loss {job.progress.loss:.3f}, {job.progress.examples_per_second:.0f} rows/s, "
            f"{job.progress.eta_seconds:.0f} s left"
        )
    elif job.state == train_pb2.TRAINING_STATE_SUCCEEDED:
        note = "switching" if job.decision.outcome == 1 else "done"
    progress.update(
        task, description=f"{job.model}: {state}", total=total, completed=job.progress.step,
        note=note,
    )  # fmt: skip
