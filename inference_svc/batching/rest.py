"""The pause between two small batches.

A batch costs about as much as BATCH_OVERHEAD_TOKENS (cutting.py) however few it has: the weights
come through the memory once. At half of the capacity an engine that starts each batch with
whatever is there computes one or two texts at a time and takes all of the processor nevertheless.
A short rest lets texts come together; the work of three is done for the price of one and a half.
"""

# A batch may have taken long because others had the processor.
LONGEST_REST_S = 0.02


class Rest:
    """After a batch during which a few others came, rests for a share of its time."""

    def __init__(self, share: float) -> None:
        """`share` of the last batch's time; 0: no rest."""
        self._share = share
        self._began = self._ended = self._until = 0.0

    def began(self, now: float) -> None:
        """A batch begins."""
        self._began = now

    def ended(self, now: float, seconds: float) -> None:
        """It has ended and took so long."""
        self._ended = now
        self._until = now + min(self._share * seconds, LONGEST_REST_S)

    def left(self, now: float, first_arrived: float) -> float:
        """Seconds to wait for company of what is there; 0: begin.

        `first_arrived`: when the first of it came. Who asks alone comes after the last batch and
        does not wait; neither does what was left over from before it.
        """
        if not self._began < first_arrived <= self._ended:
            return 0.0
        return max(0.0, self._until - now)
