"""Texts and labels are shown as they are, at any width of the terminal."""

import io
import json

import pytest
from rich.console import Group
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mesh.v1 import data_pb2
from mesh_cli.terminal import log_lines, output
from mesh_cli.terminal.plain_console import PlainConsole, visible
from mesh_cli.terminal.tables import print_table

HOSTILE = ["[urgent]", "[/urgent]", "[bold]x[/bold]", "[link=http://x]y[/link]", ":smile:", "\\[a]"]
BATCH = (
    "retrain__customer_reviews_of_the_second_shop__12",
    400,
    "running",
    "2026-11-29 01:02:03",
    "the table is locked by another session, which has to end before its rows can be read",
)
COLUMNS = ("batch", "rows", "state", "sealed", "error")


def console_of(width: int) -> PlainConsole:
    return PlainConsole(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False
    )


def printed(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("label", HOSTILE)
def test_a_label_that_looks_like_markup_is_shown_as_it_is(label: str) -> None:
    console = console_of(80)
    print_table(console, label, (label, "train"), [(label, 1)])
    console.print(f"label {label}")
    assert printed(console).count(label) == 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]8;;http://x\x07y", "\\x1b]8;;http://x\\x07y"),
        ("a\rb\x08c\x00", "a\\rb\\x08c\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("one\ntwo", "one\\ntwo"),
    ],
)
def test_a_control_character_is_shown_and_never_sent_to_the_terminal(text: str, shown: str) -> None:
    console = console_of(80)
    print_table(console, "", ("text",), [(text,)])
    assert shown in printed(console)
    console.print(text.replace("\n", ""))
    assert not set(printed(console)) & set("\x1b\x07\r\x08\x00\x9b\u202e")


@pytest.mark.parametrize(
    "text", ["日本語 и русский", "👩\u200d👩\u200d👧", "e\u0301", "می\u200cخواهم"]
)
def test_every_language_is_left_alone(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\u202eb", "\x9b2J", "\x1b]8;;http://x\x1b\\y"])
def test_no_way_of_printing_sends_what_a_terminal_obeys(text: str) -> None:
    """Whatever shows the text, also what forgets to make it visible."""
    console = console_of(80)
    table = Table(title=Text(text))
    table.add_column(Text(text))
    table.add_row(Text(text))
    for shown in (text, Text(text), Text.assemble((text, "bold")), table, Group(text, Text(text))):
        console.print(shown)
    columns = (TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}"))
    progress = Progress(*columns, console=console)
    progress.add_task(text, note=text)
    console.print(progress.get_renderable())
    assert not set(printed(console)) & set("\x1b\x9b\u202e")


def test_a_log_is_shown_without_what_a_terminal_obeys(capfd: pytest.CaptureFixture[str]) -> None:
    lines = "\x1b[2J\ttab\n\u202eturned\nplain\nno end\x9b"
    assert log_lines.show(["printf", "%s", lines]) == 0
    assert capfd.readouterr().out == "\\x1b[2J\ttab\n\\u202eturned\nplain\nno end\\x9b"


def test_the_exit_code_of_a_log_command_is_kept() -> None:
    assert log_lines.show(["false"]) == 1


def test_a_very_long_line_of_a_log_is_shown_whole(capfd: pytest.CaptureFixture[str]) -> None:
    long = "x" * (log_lines.MAX_LINE_BYTES + 5)
    assert log_lines.show(["printf", "%s\n" * 2, long, "y"]) == 0
    assert capfd.readouterr().out == f"{long}\ny\n"


def test_json_holds_no_character_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J\x9b\x7f\u202e\u2028\U000e0041 日本 👩\u200d👧"
    output.print_json(data_pb2.Example(text=text, label="[/a]"))
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x9b\x7f\u202e\u2028\U000e0041")
    assert "日本 👩\u200d👧" in out
    assert json.loads(out)["text"] == text


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_no_word_of_a_table_is_broken_at_any_width(width: int) -> None:
    console = console_of(width)
    print_table(console, "", COLUMNS, [BATCH])
    lines = printed(console).splitlines()
    for cell in BATCH:
        for word in str(cell).split():
            assert any(word in line for line in lines), word
    longest = max(len(word) for word in BATCH[0].split())
    assert all(len(line.rstrip()) <= max(width, longest + len("batch ")) for line in lines)


def test_a_row_that_is_too_wide_becomes_a_block_with_the_names_of_its_columns() -> None:
    console = console_of(80)
    print_table(console, "batches", COLUMNS, [BATCH, ("b", 1, Text("done", "green"), "", "")])
    assert [line.rstrip() for line in printed(console).splitlines()] == [
        "batches",
        f"batch {BATCH[0]}",
        "  rows 400   state running   sealed 2026-11-29 01:02:03",
        "  error the table is locked by another session, which has to end before its rows",
        "  can be read",
        "batch b",
        "  rows 1   state done",
    ]
