"""Tables that can be read at any width.

A table that is wider than the terminal would have its cells broken inside words. Each of its rows
is then shown as a block of its own instead: the first cell as its head, below it the other cells
with their columns' names.
"""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mesh_cli.terminal.plain_console import visible

_INDENT = 2
_BETWEEN = "   "


def print_table(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print rows of cells. A cell is shown as plain text, unless it is a rich Text."""
    cells = [[_text(cell) for cell in row] for row in rows]
    if _width(columns, cells) <= console.width:
        _print_as_table(console, title, columns, cells)
    else:
        _print_as_blocks(console, title, columns, cells)


def _text(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text(visible(str(cell)))


def _width(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """Columns of the terminal that a table with unbroken cells takes."""
    widest = [
        max(cell_len(column), *(row[number].cell_len for row in rows), 0)
        for number, column in enumerate(columns)
    ]
    # A border and a blank on both sides of each cell, and one more border.
    return sum(widest) + 3 * len(columns) + 1


def _print_as_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Text]]
) -> None:
    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(Text(column), no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_as_blocks(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Text]]
) -> None:
    if title:
        console.print(Text(title, style="italic"))
    for row in rows:
        console.print(Text.assemble((f"{columns[0]} ", "dim"), row[0].copy()), soft_wrap=True)
        named = zip(columns[1:], row[1:], strict=True)
        parts = [_named(column, cell) for column, cell in named if cell.plain]
        for line in _lines(parts, console.width - _INDENT):
            console.print(Padding(line, (0, 0, 0, _INDENT)))


def _named(column: str, cell: Text) -> Text:
    return Text.assemble((f"{column} " if column else "", "dim"), cell)


def _lines(parts: Sequence[Text], width: int) -> list[Text]:
    """Put as many parts on each line as fit; one that is longer is broken between its words."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(_BETWEEN) + part.cell_len <= width:
            lines[-1].append(_BETWEEN).append_text(part)
        else:
            lines.append(part)
    return lines
