"""Which graphs keep the memory that they need while they compute."""

import threading
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet, ref

# Graphs that computed last and keep their working memory, 10 to 45 MB each. A Champion and its
# Challenger compute by turns. For any other graph, taking the memory anew costs a hundredth of a
# batch.
KEPT = 2
# A graph that has computed nothing for so long also gives back the file's pages that it has read.
IDLE_S = 10.0


class Graph(Protocol):
    """A compiled graph."""

    last_used: float
    """When it last computed, on the clock of time.monotonic."""

    def release_working_memory(self) -> None:
        """Give back what is needed only while it computes; does nothing when it computes now."""

    def release_pages(self) -> None:
        """Give the pages of the weights file back to the system."""


class WorkingMemory:
    """Has graphs give back working memory. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: list[ref[Graph]] = []
        self._busy: WeakSet[Graph] = WeakSet()

    def used(self, graph: Graph) -> None:
        """Note that a graph has computed; the one that computed longest ago may have to give back.

        The memory goes to the process's heap, where the next graph finds it.
        """
        graph.last_used = self._clock()
        recent = self._recent
        if recent and recent[-1]() is graph:
            return
        with self._lock:
            alive = [kept for kept in self._recent if kept() not in (None, graph)]
            self._recent = [*alive, ref(graph)]
            self._busy.add(graph)
            former = [kept() for kept in self._recent[:-KEPT]]
            self._recent = self._recent[-KEPT:]
        for one in former:
            if one is not None:
                one.release_working_memory()

    def release_idle(self) -> bool:
        """Have graphs that are idle give everything back; returns whether there were any."""
        with self._lock:
            limit = self._clock() - IDLE_S
            idle = [graph for graph in self._busy if graph.last_used <= limit]
            self._recent = [kept for kept in self._recent if kept() not in idle]
            for graph in idle:
                self._busy.discard(graph)
        for graph in idle:
            graph.release_working_memory()
            graph.release_pages()
        return bool(idle)
