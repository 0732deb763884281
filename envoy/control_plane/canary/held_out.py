"""The training's comparison of a version with the Champion, on held-out rows."""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.canary.significance import upper_bound
from service_kit.model_registry.records import (
    TAG_COMPARED_WITH,
    TAG_DISAGREEMENT,
    TAG_HELD_OUT_ROWS,
    TAG_P_VALUE,
    TAG_P_WORSE,
)


@dataclass(frozen=True)
class HeldOut:
    """The comparison of a Challenger with the version that was the Champion at its training."""

    compared_with: str = ""
    """Version of the Champion in the comparison; empty: there was no comparison."""

    p_value: float = 1.0
    """p-value of the one-sided test that the Challenger is better."""

    disagreement: float = 0.0
    """Share of the rows that the two versions answer differently, 0..1."""

    rows: int = 0
    """Number of rows; 0: the disagreement is not known."""

    p_worse: float = 1.0
    """p-value of the one-sided test that the Challenger is worse."""

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "HeldOut":
        """Read the tags of a model version; fields without a tag keep their defaults."""
        return cls(
            tags.get(TAG_COMPARED_WITH, ""),
            float(tags.get(TAG_P_VALUE, "1")),
            float(tags.get(TAG_DISAGREEMENT, "0")),
            int(tags.get(TAG_HELD_OUT_ROWS, "0")),
            float(tags.get(TAG_P_WORSE, "1")),
        )

    def most_disagreement(self, champion: str, confidence: float) -> float | None:
        """Return the highest share of differing answers that the rows leave plausible.

        None when the Challenger was not compared with this Champion.
        """
        if not self.rows or self.compared_with != champion:
            return None
        return upper_bound(round(self.disagreement * self.rows), self.rows, confidence)
