"""The invariants of rows, batches and runs, which hold whatever happened to the bridge."""

from collections import Counter
from collections.abc import Collection, Sequence

from tests.chaos.conftest import Hold
from tests.real_parts.trigger_service import query

LOST, RUNS = "every committed row in exactly one batch", "every batch has exactly one run"


def memberships(url: str) -> Counter[tuple[str, int]]:
    """Return how many batches name each row, by model and id."""
    return Counter(
        query(
            url,
            "SELECT model, n FROM mesh.batches, unnest(row_ids) AS r,"
            " generate_series(lower(r), upper(r) - 1) AS n",
        )
    )


def settled(url: str) -> bool:
    """Return whether no rows wait and every batch has succeeded."""
    ((waits, open_batches),) = query(
        url,
        "SELECT (SELECT count(*) FROM mesh.outbox),"
        " (SELECT count(*) FROM mesh.batches WHERE state <> 'SUCCEEDED')",
    )
    return not waits and not open_batches


def hold_once(
    hold: Hold, url: str, model: str, rows: Collection[int], runs: Sequence[str], more: str = ""
) -> None:
    """Assert that each of `rows` is in one batch, and that each batch has one of `runs`.

    `more` is added to the text that is printed beside the second invariant.
    """
    batches_of = memberships(url)
    lost = [row for row in rows if not batches_of[model, row]]
    doubled = [row for row, count in batches_of.items() if count > 1]
    seen = f"{len(rows)} rows: {len(lost)} lost, {len(doubled)} doubled"
    hold(LOST, not lost and not doubled, seen)
    ids = sorted(name for (name,) in query(url, "SELECT id FROM mesh.batches"))
    hold(RUNS, sorted(runs) == ids, f"{len(ids)} batches, {len(runs)} runs{more}")
