"""The verb `mesh demo`: runs the whole loop once on the real system and prints what it measured."""

import threading
import time
from collections import Counter
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import typer
from rich.text import Text

from mesh.client import MeshClient
from mesh.errors import MeshError, NotFound
from mesh.v1 import data_pb2, train_pb2
from mesh_cli.certificates.choice import Tls, TlsChoice
from mesh_cli.deployments.deployment import Deployment
from mesh_cli.errors import BadInput, CliError
from mesh_cli.rows.csv_files import Columns, Row, read_rows
from mesh_cli.terminal import output, training_progress
from mesh_cli.terminal.interrupts import uninterrupted
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.status_document import doors, print_doors

MODEL = "reviews"
TURN_TIMEOUT_S = 300.0
# Seconds between two requests of the demo: 20 requests a second show each failure, and leave the
# cores to the training.
PAUSE_S = 0.05
QUESTION = "Not the disaster I had feared: by the end I was grinning."


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(demo)


@dataclass(frozen=True)
class Result:
    """What the demo measured."""

    model: str
    first_version: str
    second_version: str
    first_accuracy: float
    second_accuracy: float
    held_out_rows: int
    commit_to_first_answer_s: float
    requests: int
    failed: int
    answers_by_version: dict[str, int]


def demo(tls: Tls = None, json: Json = False) -> None:
    """Show the loop: import, train, serve, insert rows, and see the better model answer.

    Starts the mesh unless it is up, and leaves it running; Ctrl-C stops a mesh that this command
    has started. Example: `mesh demo`
    """
    mesh = context.deployment()
    was_up = mesh.is_up()
    if was_up and tls is not None and tls != context.has_tls(mesh.address):
        raise BadInput(
            f"the mesh is up {'without' if tls else 'with'} TLS: stop it first, by"
            f" `{mesh.stop_command}`"
        )
    try:
        if not was_up:
            mesh.start(TlsChoice(tls))
        with context.client_of(mesh.address) as client:
            result = _run(mesh, client)
    except KeyboardInterrupt:
        if not was_up:
            with uninterrupted():
                _step("stopping the mesh that this demo started; its state stays")
                mesh.stop()
        raise
    if json:
        output.print_json({**result.__dict__, "urls": mesh.urls()})
    else:
        _print(result)
        print_doors(doors(mesh))
        console.print(f"`mesh status` shows the parts, `{mesh.stop_command}` stops them.")
    if result.failed:
        raise CliError(f"{result.failed} requests failed")


def _run(mesh: Deployment, client: MeshClient) -> Result:
    model = _unused_name(client)
    first, more, held_out = (_sample(name) for name in ("first", "more", "test"))
    _step(f"importing {len(first)} reviews into {model}, {len(held_out)} more are held out")
    examples = [_example(row, "train") for row in first] + [
        _example(row, "test") for row in held_out
    ]
    answer = client.import_examples(model, examples, source="sample")
    batch = _turn(client, model, answer.batch.id)
    before = client.get_training(batch.id)
    _step(f"version {before.version} serves: {_ask(client, model)}")
    with _Traffic(mesh.address, model) as traffic:
        _step(f"inserting {len(more)} reviews by SQL, while requests go on")
        mesh.insert(model, more)
        committed = time.monotonic()
        after, first_answer = _await_switch(client, model, before.version, traffic)
    _step(f"version {after.version} serves: {_ask(client, model)}")
    counts = traffic.counts
    return Result(
        model=model,
        first_version=before.version,
        second_version=after.version,
        first_accuracy=after.decision.champion_accuracy,
        second_accuracy=after.decision.challenger_accuracy,
        held_out_rows=len(held_out),
        commit_to_first_answer_s=first_answer - committed,
        requests=sum(counts.values()) + traffic.failed,
        failed=traffic.failed,
        answers_by_version=dict(counts),
    )


def _unused_name(client: MeshClient) -> str:
    """`reviews`; when the demo has run before, `reviews_2` and so on."""
    number = 1
    while True:
        name = MODEL if number == 1 else f"{MODEL}_{number}"
        try:
            client.get_dataset(name)
        except NotFound:
            return name
        number += 1


def _sample(name: str) -> list[Row]:
    resource = files("mesh_cli") / "sample_data" / f"reviews_{name}.csv"
    with as_file(resource) as path:
        return read_rows(path, Columns())


def _example(row: Row, split: str) -> data_pb2.Example:
    return data_pb2.Example(text=row.text, label=row.label, split=split)


def _turn(client: MeshClient, model: str, batch_id: str) -> data_pb2.Batch:
    batch = training_progress.follow_batch(client, model, batch_id)
    if batch.state != data_pb2.BATCH_STATE_SUCCEEDED:
        raise CliError(f"batch {batch_id} did not succeed: {batch.error}")
    return batch


def _await_switch(
    client: MeshClient, model: str, old_version: str, traffic: "_Traffic"
) -> tuple[train_pb2.TrainingJob, float]:
    deadline = time.monotonic() + TURN_TIMEOUT_S
    batch = _new_batch(client, model, deadline)
    batch = _turn(client, model, batch.id)
    job = client.get_training(batch.id)
    if job.decision.outcome != train_pb2.DECISION_OUTCOME_PROMOTED:
        raise CliError(f"the second model was not promoted: {job.decision.reason}")
    while job.version not in traffic.first_seen:
        if time.monotonic() > deadline:
            raise CliError(f"version {old_version} still answers after {TURN_TIMEOUT_S:.0f} s")
        time.sleep(0.02)
    return job, traffic.first_seen[job.version]


def _new_batch(client: MeshClient, model: str, deadline: float) -> data_pb2.Batch:
    while True:
        newest = client.list_batches(model, limit=1)[0]
        if newest.reason != data_pb2.BATCH_REASON_IMPORT:
            return newest
        if time.monotonic() > deadline:
            raise CliError("the trigger service made no batch of the inserted rows")
        time.sleep(0.1)


def _ask(client: MeshClient, model: str) -> str:
    prediction = client.predict(model, QUESTION).predictions[0]
    return f"“{QUESTION}” → {prediction.label} ({prediction.score:.2f})"


def _step(text: str) -> None:
    output.errors.print(Text.assemble(("›", "bold cyan"), f" {text}"))


def _print(result: Result) -> None:
    rows: list[tuple[str, Any, Any]] = [
        ("version", result.first_version, result.second_version),
        (
            f"accuracy on {result.held_out_rows} held-out reviews",
            f"{result.first_accuracy:.3f}",
            f"{result.second_accuracy:.3f}",
        ),
        (
            "answers",
            result.answers_by_version.get(result.first_version, 0),
            result.answers_by_version.get(result.second_version, 0),
        ),
    ]
    output.print_table(result.model, ("", "before", "after"), rows)
    console.print(
        f"{result.commit_to_first_answer_s:.1f} s from the INSERT's commit to the first answer "
        "by the new version",
    )
    console.print(f"{result.requests:,} requests sent meanwhile, failed: {result.failed}")


class _Traffic:
    """Sends one request after the other in a thread; counts the answers of each version."""

    def __init__(self, address: str, model: str) -> None:
        self.counts: Counter[str] = Counter()
        self.first_seen: dict[str, float] = {}
        self.failed = 0
        self._address = address
        self._model = model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="traffic")

    def __enter__(self) -> "_Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        # On a channel that it does not make itself, the client retries nothing: each failed request
        # counts.
        channel = context.bare_channel(self._address)
        with context.client_of(self._address, channel) as client:
            while not self._stop.wait(PAUSE_S):
                try:
                    version = client.predict(self._model, QUESTION).model.version
                except MeshError:
                    self.failed += 1
                else:
                    self.counts[version] += 1
                    self.first_seen.setdefault(version, time.monotonic())
