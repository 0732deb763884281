"""Verbs about training jobs: train, trainings, cancel."""

from typing import Annotated

import typer

from mesh.client import MeshClient
from mesh.v1 import reload_pb2, train_pb2
from mesh_cli.errors import EXIT_FAILED
from mesh_cli.terminal import output, reload_progress, training_progress
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model
from mesh_cli.verbs.fleet_verbs import print_reload


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(train)
    app.command()(trainings)
    app.command()(cancel)


def train(
    model: Model,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job, then reload.")] = False,
    no_reload: Annotated[
        bool, typer.Option("--no-reload", help="Leave the fleet as it is.")
    ] = False,
    challenger_only: Annotated[
        bool, typer.Option("--challenger-only", help="Register it as @Challenger only.")
    ] = False,
    base_model: Annotated[str, typer.Option(help="Name in TRAINING_BASE_MODELS.")] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the rows; 0: automatic.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Rows per step; 0: default.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; 0: default.")] = 0.0,
    max_length: Annotated[int, typer.Option(help="Longest input, tokens; 0: default.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="From the Champion.")] = False,
    max_examples: Annotated[int, typer.Option(help="Newest rows to train on; 0: default.")] = 0,
    request_id: Annotated[
        str, typer.Option(help="A repeated call with the same id starts no second job.")
    ] = "",
    json: Json = False,
) -> None:
    """Train a model on its rows and promote it if it is better.

    Example: `mesh train reviews --wait`
    """
    params = train_pb2.TrainParams(
        base_model=base_model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        seed=seed,
        warm_start=warm_start,
        max_examples=max_examples,
    )
    promotion = train_pb2.PROMOTION_CHALLENGER_ONLY if challenger_only else train_pb2.PROMOTION_AUTO
    reloaded: reload_pb2.ReloadResponse | None = None
    serve = not (no_reload or challenger_only)
    with context.client() as client:
        job = client.train(
            model, params=params, promotion=promotion, serve=serve, request_id=request_id
        )
        if wait:
            job = training_progress.follow_training(client, job.id)
            reloaded = _reload_promoted(client, job, no_reload)
    if json:
        document = output.plain(job)
        if reloaded is not None:
            document["reload"] = output.plain(reloaded)
        output.print_json(document)
    else:
        _print_job(job)
        if reloaded is not None:
            print_reload(reloaded)
    if wait and job.state != train_pb2.TRAINING_STATE_SUCCEEDED:
        raise typer.Exit(EXIT_FAILED)


def _reload_promoted(
    client: MeshClient, job: train_pb2.TrainingJob, no_reload: bool
) -> reload_pb2.ReloadResponse | None:
    promoted = job.decision.outcome == train_pb2.DECISION_OUTCOME_PROMOTED
    if not promoted or no_reload:
        return None
    with reload_progress.showing(client, job.model):
        return client.reload(job.model, request_id=f"{job.id}-reload")


def trainings(
    model: Model,
    limit: Annotated[int, typer.Option(help="Jobs to list at most.", min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """List the training jobs of a model, newest first.

    Example: `mesh trainings reviews`
    """
    with context.client() as client:
        jobs = client.list_trainings(model, limit=limit)
    if json:
        output.print_json(jobs)
        return
    output.print_table(
        "",
        ("job", "request", "state", "version", "accuracy", "decision"),
        (
            (
                job.id,
                job.request_id,
                training_progress.state_word(job),
                job.version,
                f"{job.metrics['accuracy']:.4f}" if "accuracy" in job.metrics else "",
                "; ".join(filter(None, [job.decision.reason or job.error, *rows_left_out(job)])),
            )
            for job in jobs
        ),
    )


def cancel(
    training: Annotated[str, typer.Argument(help="Id, or request id, of the job.")],
    json: Json = False,
) -> None:
    """Cancel a training job that has not ended.

    Example: `mesh cancel retrain__reviews__7`
    """
    with context.client() as client:
        job = client.cancel_training(training)
    if json:
        output.print_json(job)
    else:
        _print_job(job)


def _print_job(job: train_pb2.TrainingJob) -> None:
    version = f", version {job.version}" if job.version else ""
    console.print(f"job {job.id}: {training_progress.state_word(job)}{version}")
    for line in (job.decision.reason, job.error, *rows_left_out(job)):
        if line:
            console.print(line)


def rows_left_out(job: train_pb2.TrainingJob) -> list[str]:
    """Say which rows the job did not use, and why."""
    reasons = sorted(job.rows.dropped_by_reason.items())
    lines = [f"{count:,} rows dropped: {reason}" for reason, count in reasons]
    if job.rows.left_out:
        lines.append(
            f"{job.rows.left_out:,} older rows left out: "
            f"at most {job.params.max_examples:,} are trained on"
        )
    return lines
