"""Results as files: the newest of each command, and the history of the replaced ones."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench.kit import results
from bench.kit.results import Section, commit, markdown, record

FIRST = Section(
    title="Title",
    command="python -m bench.serve --peers one,two",
    columns=("a", "b"),
    rows=(("x", "first"),),
    date="2026-11-23 04:21 UTC",
    machine="2 cores of a processor",
    versions={"numpy": "2.4", "commit": "c5dbfa7-dirty"},
)
SECOND = replace(FIRST, rows=(("x", "second"),), date="2026-11-24 05:22 UTC")


def _history(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "history").glob("*"))


def test_a_section_takes_the_place_of_the_last_one_of_its_key(tmp_path: Path) -> None:
    record("serve", FIRST, tmp_path)
    record("other", replace(FIRST, title="Other"), tmp_path)
    record("serve", SECOND, tmp_path)
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.count("## Title") == page.count("## Other") == 1
    assert "| x | second |" in page
    sections = json.loads((tmp_path / "results.json").read_text())
    assert sections["serve"]["date"] == SECOND.date


def test_a_replaced_section_is_kept_by_date_command_and_commit(tmp_path: Path) -> None:
    record("serve one,two", FIRST, tmp_path)
    first = json.loads((tmp_path / "results.json").read_text())["serve one,two"]
    record("serve one,two", SECOND, tmp_path)
    assert _history(tmp_path) == ["2026-11-23T0421Z_serve-one-two_c5dbfa7-dirty.json"]
    (path,) = (tmp_path / "history").iterdir()
    assert json.loads(path.read_text()) == first


def test_sections_of_one_minute_are_all_kept(tmp_path: Path) -> None:
    for cell in ("1", "2", "3"):
        record("serve", replace(FIRST, rows=(("x", cell),)), tmp_path)
    kept = [json.loads(path.read_text()) for path in (tmp_path / "history").iterdir()]
    assert sorted(section["rows"][0][1] for section in kept) == ["1", "2"]


def test_the_history_drops_its_oldest_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST_HISTORY_FILES", 2)
    for day in range(1, 6):
        record("serve", replace(FIRST, date=f"2026-11-0{day} 10:00 UTC"), tmp_path)
    assert [name[:10] for name in _history(tmp_path)] == ["2026-11-03", "2026-11-04"]


def test_a_page_without_sections_has_its_head() -> None:
    assert markdown({}).startswith("# Results")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The folder `bench` of a checkout, in which everything is committed."""
    folder = tmp_path / "bench"
    folder.mkdir()
    for path in (tmp_path / "code.py", folder / "results.json", folder / "RESULTS.md"):
        path.write_text("committed")
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "all"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return folder


def test_a_commit_with_changed_code_is_dirty(checkout: Path) -> None:
    clean = commit(checkout)
    (checkout.parent / "code.py").write_text("changed")
    assert len(clean) >= 7
    assert commit(checkout) == f"{clean}-dirty"


def test_results_do_not_make_a_commit_dirty(checkout: Path) -> None:
    clean = commit(checkout)
    for name in ("results.json", "RESULTS.md"):
        (checkout / name).write_text("changed")
    assert commit(checkout) == clean
