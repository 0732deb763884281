"""What the command prints: tables and progress for people, JSON for scripts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from mesh_cli.terminal import tables
from mesh_cli.terminal.plain_console import PlainConsole, visible

console = PlainConsole(highlight=False)
errors = PlainConsole(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def print_json(value: Message | Mapping[str, Any] | Sequence[Any]) -> None:
    """Print a message or plain data as JSON on standard output, uncoloured."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False)
    print("\n".join(visible(line, _json_escape) for line in text.split("\n")))


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def plain(value: Any) -> Any:
    """Messages, and collections of them, as plain data with lowerCamelCase names."""
    if isinstance(value, Message):
        return MessageToDict(value, always_print_fields_with_no_presence=True)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output; see mesh_cli.terminal.tables."""
    tables.print_table(console, title, columns, rows)


def print_details(details: Iterable[tuple[str, str]]) -> None:
    """Print a line for each name that has something to be said of it."""
    for name, detail in details:
        if detail:
            console.print(f"{name}: {detail}", highlight=False, markup=False, soft_wrap=True)


def progress() -> Progress:
    """A progress display on standard error, so that it never mixes with the result."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
    )


def advance(progress: Progress, task: TaskID, step: str) -> None:
    """Show a step as done."""
    progress.console.print(Text.assemble(("✓", "green"), f" {step}"))
    progress.update(task, advance=1, note=step)


def mark(good: bool) -> Text:
    """A coloured yes or no."""
    return Text("yes", "green") if good else Text("no", "red")
