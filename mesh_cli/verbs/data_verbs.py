"""Verbs about rows and turns of the loop: import, add, delete, dataset, trigger, retry, batches."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import Progress

from mesh import errors as call_errors
from mesh.v1 import data_pb2
from mesh_cli.errors import EXIT_FAILED, BadInput
from mesh_cli.rows import hf_datasets
from mesh_cli.rows.csv_files import Columns, Row, check_test_labels, read_rows
from mesh_cli.terminal import output, training_progress
from mesh_cli.terminal.output import Json, console
from mesh_cli.verbs import context
from mesh_cli.verbs.arguments import Model

_BATCH = re.compile(r"retrain__(?P<model>[a-z][a-z0-9_]*)__[0-9]+")
_ROW = re.compile(r"examples\[(?P<index>[0-9]+)\]")
Wait = Annotated[bool, typer.Option("--wait", help="Follow the turn of the loop to its end.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command("import")(import_rows)
    app.command()(add)
    app.command()(delete)
    app.command()(dataset)
    app.command()(trigger)
    app.command()(retry)
    app.command()(batches)


def import_rows(
    model: Model,
    file: Annotated[Path | None, typer.Argument(help="CSV file with a header line.")] = None,
    test: Annotated[Path | None, typer.Option(help="CSV file with the held-out rows.")] = None,
    hf_dataset: Annotated[
        str, typer.Option(help="Hub id or folder of a Hugging Face dataset, instead of a file.")
    ] = "",
    text_column: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column with the label.")] = "label",
    split_column: Annotated[str, typer.Option(help="Column that says train or test.")] = "",
    no_train: Annotated[bool, typer.Option("--no-train", help="Start no training.")] = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Import labelled texts, all or none of them; makes the model when it is new.

    Without held-out rows a fifth of each label is held out, the same rows every time.
    Example: `mesh import reviews train.csv --test test.csv --wait`
    """
    if (file is None) == (not hf_dataset):
        raise BadInput("give either a CSV file or --hf-dataset")
    if hf_dataset and test:
        raise BadInput("--test goes with a CSV file; a data set has its own test split")
    columns = Columns(text_column, label_column, split_column)
    if file:
        rows = _read_files(file, test, columns)
    else:
        with output.errors.status(f"loading {hf_dataset}"):
            rows = hf_datasets.read_rows(hf_dataset, columns)
    answer = _send(model, rows, file, test, hf_dataset, no_train)
    batch = answer.batch
    failed = False
    if wait and batch.id:
        with context.client() as client:
            batch = training_progress.follow_batch(client, model, batch.id)
        answer.batch.CopyFrom(batch)
        failed = batch.state != data_pb2.BATCH_STATE_SUCCEEDED
    if json:
        output.print_json(answer)
    else:
        counts = f"{answer.rows.train:,} rows to train on, {answer.rows.test:,} held out"
        console.print(f"{'created' if answer.created else 'added to'} {model}: {counts}")
        if batch.id:
            _print_batch(batch)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _read_files(file: Path, test: Path | None, columns: Columns) -> list[Row]:
    if test is None:
        return read_rows(file, columns)
    train_rows = read_rows(file, columns, "train")
    test_rows = read_rows(test, columns, "test")
    check_test_labels(
        test,
        [row for row in train_rows if row.split == "train"],
        [row for row in test_rows if row.split == "test"],
    )
    return train_rows + test_rows


def _send(
    model: str, rows: list[Row], file: Path | None, test: Path | None, source: str, no_train: bool
) -> data_pb2.ImportExamplesResponse:
    with context.client() as client, output.progress() as progress:
        try:
            return client.import_examples(
                model,
                _examples(rows, progress),
                source=file.name if file else source,
                no_train=no_train,
            )
        except (call_errors.InvalidArgument, call_errors.FailedPrecondition) as error:
            raise BadInput(_with_line(error, rows, file, test)) from None


def _examples(rows: list[Row], progress: Progress) -> Iterator[data_pb2.Example]:
    task = progress.add_task("importing", total=len(rows), note=f"{len(rows):,} rows")
    for row in rows:
        yield data_pb2.Example(text=row.text, label=row.label, split=row.split)
        progress.advance(task)


def _with_line(
    error: call_errors.MeshError, rows: list[Row], file: Path | None, test: Path | None
) -> str:
    """The error's message; with the file and the line when it names a row by its index."""
    named = _ROW.search(str(error))
    if file and named and int(named["index"]) < len(rows):
        row = rows[int(named["index"])]
        path = test if test and row.split == "test" else file
        return f"{path}, line {row.line}: {error}"
    return str(error)


def add(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text.")],
    label: Annotated[str, typer.Argument(help="Its label.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    json: Json = False,
) -> None:
    """Add one labelled text to a model that exists.

    Example: `mesh add reviews "Would stay again." positive`
    """
    with context.client() as client:
        example = data_pb2.Example(text=text, label=label, split=split)
        answer = client.add_examples(model, [example])
    if json:
        output.print_json(answer)
    else:
        console.print(f"added {answer.added} row to {model}")


def delete(
    model: Model,
    texts: Annotated[list[str], typer.Argument(help="The texts, exactly as in the rows.")],
    json: Json = False,
) -> None:
    """Delete every row of a model that has one of these texts.

    Versions keep what they have learned from it; the next training does without it.
    Example: `mesh delete reviews "My name is Ann."`
    """
    with context.client() as client:
        answer = client.delete_examples(model, texts)
    if json:
        output.print_json(answer)
    else:
        console.print(f"deleted {answer.deleted} rows of {model}")


def dataset(model: Model, json: Json = False) -> None:
    """Count the rows of a model.

    Example: `mesh dataset reviews`
    """
    with context.client() as client:
        answer = client.get_dataset(model)
    if json:
        output.print_json(answer)
        return
    rows = [(label.label, label.train, label.test) for label in answer.labels]
    rows.append(("all", answer.rows.train, answer.rows.test))
    output.print_table("", ("label", "train", "test"), rows)
    if answer.estimated:
        console.print("estimated from a sample: the table is too large to be counted")
    console.print(f"{answer.pending_rows} rows wait for the next batch")
    if answer.unbatched_rows:
        text = (
            f"{answer.unbatched_rows} more came past the table's triggers: `mesh trigger {model}`"
        )
        console.print(text)


def trigger(model: Model, wait: Wait = False, json: Json = False) -> None:
    """Start one turn of the loop now: train, and serve the new version if it is better.

    Example: `mesh trigger reviews --wait`
    """
    with context.client() as client:
        batch = client.trigger(model)
        if wait:
            batch = training_progress.follow_batch(client, model, batch.id)
    if json:
        output.print_json(batch)
    else:
        _print_batch(batch)
    if wait and batch.state != data_pb2.BATCH_STATE_SUCCEEDED:
        raise typer.Exit(EXIT_FAILED)


def retry(
    model_or_batch: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|BATCH", help="A batch; or a model, for its newest batch to retry."
        ),
    ],
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Retry a batch that Airflow refused or whose run failed; `mesh status` shows those batches.

    The batch's run begins again, and its training job makes its next attempt.
    Example: `mesh retry reviews --wait`
    """
    batch_id = _BATCH.fullmatch(model_or_batch)
    with context.client() as client:
        if batch_id:
            batch = client.retry(batch_id["model"], model_or_batch)
        else:
            batch = client.retry(model_or_batch)
        if wait:
            batch = training_progress.follow_batch(client, batch.model, batch.id)
    if json:
        output.print_json(batch)
    else:
        _print_batch(batch)
    if wait and batch.state != data_pb2.BATCH_STATE_SUCCEEDED:
        raise typer.Exit(EXIT_FAILED)


def batches(
    model: Model,
    limit: Annotated[int, typer.Option(help="Batches to list at most.", min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """List the batches of a model, newest first, with their state and times.

    Example: `mesh batches reviews`
    """
    with context.client() as client:
        page = client.list_batches_page(model, page_size=limit)
    listed = page.batches
    if json:
        output.print_json(list(listed))
        return
    output.print_table(
        "",
        ("batch", "rows", "reason", "state", "version", "sealed", "first answer", "error"),
        (
            (
                batch.id,
                batch.rows,
                _word(data_pb2.BatchReason.Name(batch.reason)),
                _word(data_pb2.BatchState.Name(batch.state)),
                batch.version,
                _moment(batch.sealed_at),
                _moment(batch.first_answer_at) if batch.HasField("first_answer_at") else "",
                batch.error,
            )
            for batch in listed
        ),
    )
    for trouble in page.troubles:
        console.print(f"{trouble.model}: {trouble.message}")


def _print_batch(batch: data_pb2.Batch) -> None:
    state = _word(data_pb2.BatchState.Name(batch.state))
    version = f", version {batch.version}" if batch.version else ""
    why = f": {batch.error}" if batch.error else ""
    console.print(f"batch {batch.id}: {state}{version}{why}")


def _moment(stamp: Timestamp) -> str:
    return stamp.ToDatetime().isoformat(sep=" ", timespec="seconds")


def _word(enum_name: str) -> str:
    return enum_name.rsplit("_", 1)[-1].lower()
