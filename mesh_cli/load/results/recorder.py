"""Keeps the outcome of every request, in columns, while the load runs."""

import time
from array import array

from mesh_cli.load.wire.connection_pool import OK

# Answers and their bytes that are kept until the run is over, to see which server gave them. Beyond
# either bound every second answer is dropped, so that the kept ones stay spread evenly.
KEPT_ANSWERS = 200_000
KEPT_BYTES = 256 * 1024 * 1024


class Recorder:
    """One row a request, in the order in which they were answered."""

    def __init__(self) -> None:
        self.due = array("d")
        """When the request should have been sent, seconds of time.monotonic()."""
        self.latency = array("d")
        """Seconds from `due` to the answer."""
        self.code = array("H")
        """Index into `codes`."""
        self.codes = [OK]
        self.messages: dict[str, str] = {}
        """The first message of each error."""
        self.kept: list[tuple[int, bytes]] = []
        """Row and bytes of the good answers that are kept."""
        self.lag = array("d")
        """Seconds by which the generator itself was late, one value for each time that it acted."""
        self.every = 1
        """One good answer in this many is kept."""
        self._good = 0
        self._kept_bytes = 0

    def answered(self, due: float, code: str, body: bytes) -> None:
        """Add a request that has just been answered."""
        self.latency.append(time.monotonic() - due)
        self.due.append(due)
        if code == OK:
            self.code.append(0)
            if self._good % self.every == 0:
                self._keep(body)
            self._good += 1
            return
        if code not in self.messages:
            self.codes.append(code)
            self.messages[code] = body[:500].decode(errors="replace")
        self.code.append(self.codes.index(code))

    def _keep(self, body: bytes) -> None:
        self.kept.append((len(self.due) - 1, body))
        self._kept_bytes += len(body)
        if len(self.kept) >= KEPT_ANSWERS or self._kept_bytes >= KEPT_BYTES:
            self.kept = self.kept[::2]
            self._kept_bytes = sum(len(body) for _, body in self.kept)
            self.every *= 2
