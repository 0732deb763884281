"""Verbs about models: predict, models, train, trainings, cancel, reload, rollback, fleet."""

import sys
from typing import Annotated

import typer

from mesh.client import MeshClient
from mesh.v1 import predict_pb2, reload_pb2, train_pb2
from mesh_cli.errors import EXIT_FAILED
from mesh_cli.terminal import output, reload_progress, watch
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.data_verbs import Model


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(predict)
    app.command()(models)
    app.command()(train)
    app.command()(trainings)
    app.command()(cancel)
    app.command()(reload)
    app.command()(rollback)
    app.command()(fleet)
    app.command()(traffic)


def predict(
    model: Model,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, one a line of standard input.")
    ] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="Show every label.")] = False,
    json: Json = False,
) -> None:
    """Classify texts with the version in service.

    Example: `mesh predict reviews "What a delight." "Never again."`
    """
    lines = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    with context.client() as client:
        answer = client.predict(model, lines, all_scores=all_scores)
    if json:
        output.print_json(answer)
        return
    output.print_table(
        "",
        ("text", "label", "score"),
        (_prediction(text, found) for text, found in zip(lines, answer.predictions, strict=True)),
    )
    served = answer.model
    console.print(
        f"{served.name} version {served.version} (@{served.alias}) on {answer.replica}",
        highlight=False,
    )


def _prediction(text: str, found: predict_pb2.Prediction) -> tuple[str, str, str]:
    shown = text if len(text) <= 80 else text[:79] + "…"
    if found.truncated:
        shown += " (only its beginning was read)"
    scores = ", ".join(f"{item.label} {item.score:.3f}" for item in found.scores)
    return shown, found.label, scores or f"{found.score:.3f}"


def models(json: Json = False) -> None:
    """List the models in service.

    Example: `mesh models`
    """
    with context.client() as client:
        found = client.list_models()
    if json:
        output.print_json(found)
        return
    output.print_table(
        "",
        ("model", "version", "alias", "labels", "engine"),
        ((m.name, m.version, m.alias, ", ".join(m.labels), m.engine) for m in found),
    )


def train(
    model: Model,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job, then reload.")] = False,
    no_reload: Annotated[
        bool, typer.Option("--no-reload", help="With --wait: leave the fleet as it is.")
    ] = False,
    challenger_only: Annotated[
        bool, typer.Option("--challenger-only", help="Register it as @Challenger only.")
    ] = False,
    base_model: Annotated[str, typer.Option(help="Hub id or folder to start from.")] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the rows; 0: automatic.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Rows a step; 0: default.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; 0: default.")] = 0.0,
    max_length: Annotated[int, typer.Option(help="Longest input, tokens; 0: default.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="From the Champion.")] = False,
    max_examples: Annotated[int, typer.Option(help="At most so many rows; 0: all.")] = 0,
    request_id: Annotated[str, typer.Option(help="Makes it idempotent.")] = "",
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
    with context.client() as client:
        job = client.train(model, params=params, promotion=promotion, request_id=request_id)
        if wait:
            job = watch.follow_training(client, job.id)
            reloaded = _reload_promoted(client, job, no_reload)
    if json:
        document = output.plain(job)
        if reloaded is not None:
            document["reload"] = output.plain(reloaded)
        output.print_json(document)
    else:
        _print_job(job)
        if reloaded is not None:
            _print_reload(reloaded)
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
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """List the training jobs of a model, newest first.

    Example: `mesh trainings reviews`
    """
    with context.client() as client:
        found = client.list_trainings(model, limit=limit)
    if json:
        output.print_json(found)
        return
    output.print_table(
        "",
        ("job", "request", "state", "version", "accuracy", "decision"),
        (
            (
                job.id,
                job.request_id,
                watch.state_word(job),
                job.version,
                f"{job.metrics['accuracy']:.4f}" if "accuracy" in job.metrics else "",
                job.decision.reason or job.error,
            )
            for job in found
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


def reload(
    model: Model,
    version: Annotated[str, typer.Option(help="Version to serve; empty: the Champion.")] = "",
    json: Json = False,
) -> None:
    """Bring every replica to the Champion, or to a version, as one.

    Example: `mesh reload reviews`
    """
    with context.client() as client, reload_progress.showing(client, model):
        answer = client.reload(model, version=version)
    if json:
        output.print_json(answer)
    else:
        _print_reload(answer)


def rollback(model: Model, json: Json = False) -> None:
    """Make the previous Champion the Champion again and serve it.

    Example: `mesh rollback reviews`
    """
    with context.client() as client, reload_progress.showing(client, model):
        answer = client.rollback(model)
    if json:
        output.print_json(answer)
    else:
        _print_reload(answer)


def fleet(json: Json = False) -> None:
    """Show every replica and what it serves.

    Example: `mesh fleet`
    """
    with context.client() as client:
        found = client.get_fleet()
    if json:
        output.print_json(found)
        return
    output.print_table(
        "",
        ("model", "serving", "champion", "challenger", "previous"),
        (
            (m.name, m.serving_version, m.champion_version, m.challenger_version,
             m.previous_version)
            for m in found.models
        ),
    )  # fmt: skip
    output.print_table(
        "",
        ("replica", "address", "healthy", "eligible", "device", "serves", "detail"),
        (
            (
                replica.id,
                replica.address,
                output.mark(replica.healthy),
                output.mark(replica.eligible),
                replica.device,
                ", ".join(f"{slot.name} {slot.version}" for slot in replica.models),
                replica.detail,
            )
            for replica in found.replicas
        ),
    )


def traffic(
    model: Model,
    challenger: Annotated[
        int | None, typer.Option(help="Percentage for the Challenger.", min=0, max=100)
    ] = None,
    mirror: Annotated[int, typer.Option(help="Mirrored percentage.", min=0, max=100)] = 0,
    json: Json = False,
) -> None:
    """Show the traffic split of a model, or change it.

    Example: `mesh traffic reviews`
    """
    with context.client() as client:
        if challenger is None:
            answer = client.get_traffic(model)
        else:
            answer = client.set_traffic(model, challenger_weight=challenger, mirror_percent=mirror)
    if json:
        output.print_json(answer)
    else:
        console.print(
            f"{model}: champion {answer.champion_weight} %, challenger "
            f"{answer.challenger_weight} %, mirrored {answer.mirror_percent} %",
            highlight=False,
        )


def _print_job(job: train_pb2.TrainingJob) -> None:
    version = f", version {job.version}" if job.version else ""
    console.print(f"job {job.id}: {watch.state_word(job)}{version}", highlight=False)
    for line in (job.decision.reason, job.error):
        if line:
            console.print(line, highlight=False, markup=False)


def _print_reload(answer: reload_pb2.ReloadResponse) -> None:
    output.print_table(
        f"{answer.model}: version {answer.from_version or 'none'} → {answer.to_version}",
        ("replica", "from", "to", "prepare ms", "swap ms", "drained"),
        (
            (
                item.replica,
                item.from_version or "–",
                item.to_version,
                f"{item.prepare_ms:.0f}",
                f"{item.swap_ms:.2f}",
                item.drained_requests,
            )
            for item in answer.replicas
        ),
    )
