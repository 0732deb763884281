"""docs/benchmarks.md is written from what was measured, and from clean commits only."""

import json
from typing import Any

import pytest

from bench.kit import page
from bench.kit.page_rows import MOST_ROWS, ROWS, Row, processor

XEON = "2 cores of Intel(R) Xeon(R) Processor (virtual) [amx_bf16 avx512_bf16 avx2], 24 GiB, Linux"
EPYC = "2 cores of AMD EPYC (virtual) [avx2], 24 GiB, Linux 6.18"
ROW = Row("Padding", "loads", lambda data: float(data["pad"]), "<=", 10.0, "{:.1f} %")


def section(commit: str = "704ce7f", **data: Any) -> dict[str, Any]:
    return {"data": data, "machine": EPYC, "versions": {"commit": commit}}


@pytest.mark.parametrize(("padding", "met"), [(10.0, "yes"), (10.1, "**no**")])
def test_a_row_says_whether_its_figure_is_what_is_wanted(padding: float, met: str) -> None:
    cells = ROW.line(section(pad=padding))
    assert cells is not None
    assert list(cells) == [
        *("Padding", f"{padding:.1f} %", "≤ 10.0 %", met),
        *("`bench.loads`", "704ce7f", "AMD EPYC, AVX2"),
    ]


@pytest.mark.parametrize("found", [section("704ce7f-dirty", pad=1), section("", pad=1), section()])
def test_a_run_on_a_dirty_commit_or_without_the_figure_gives_no_row(found: dict[str, Any]) -> None:
    assert ROW.line(found) is None


def test_the_processor_is_named_with_its_widest_unit() -> None:
    assert processor(XEON) == "Intel Xeon, AMX"
    assert processor("2 cores of Unknown [], 1 GiB") == "Unknown"


def test_the_page_shows_the_latest_runs() -> None:
    shown = page.PAGE.read_text()
    sections = json.loads((page.ROOT / "bench" / "results.json").read_text())
    new = page.with_table(shown, page.table(sections))
    assert new == shown, "run `python -m bench.kit.page`"
    assert len(ROWS) <= MOST_ROWS


def test_the_page_fits_on_one_screen() -> None:
    lines = page.PAGE.read_text().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120


def test_a_page_without_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match="table:begin"):
        page.with_table("no marks", "")


def test_every_row_reads_what_its_bench_keeps() -> None:
    """The data of every bench that was ever recorded has the figures that the rows ask for."""
    sections = json.loads((page.ROOT / "bench" / "results.json").read_text())
    for row in ROWS:
        clean = sections[row.bench] | {"versions": {"commit": "0000000"}}
        assert row.line(clean) is not None, row.what
