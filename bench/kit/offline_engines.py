"""Engines without a server: as many processes as cores, one thread each."""

import os
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from types import TracebackType

from bench.kit.engine_worker import Batches, EngineSpec, OneByOne, Task, run

# Seconds from the order to the start of a measurement: by then every process has received it.
START_DELAY_S = 0.2


class OfflineEngines:
    """Processes that each hold the model and a share of the texts. Use it in a `with`."""

    def __init__(
        self, folder: Path, spec: EngineSpec, texts: Sequence[str], processes: int = 0
    ) -> None:
        self.spec = spec
        count = processes or len(os.sched_getaffinity(0))
        context = get_context("spawn")
        # Shuffled: if short and long texts alternate, each process would get only one kind.
        mixed = Random(0).sample(texts, len(texts))
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            share = mixed[number::count]
            process = context.Process(target=run, args=(theirs, folder, spec, share), daemon=True)
            self._connections.append(ours)
            self._processes.append((process, theirs))

    def __enter__(self) -> "OfflineEngines":
        for process, theirs in self._processes:
            process.start()
            theirs.close()
        for connection in self._connections:
            connection.recv()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process, _ in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()

    def throughput(self, batch_texts: int, seconds: float) -> float:
        """Texts a second of all processes together, in length-sorted batches of `batch_texts`."""
        # Computes every batch once when this size is new, so that the measurement finds it warm.
        self._ask(self._connections, Batches(batch_texts, 0.0, 0.0))
        begin = time.monotonic() + START_DELAY_S
        return sum(
            sum(rates)
            for rates in self._ask(self._connections, Batches(batch_texts, seconds, begin))
        )

    def latencies(self, seconds: float) -> list[float]:
        """Seconds of each text, one at a time, in one process while the others are idle."""
        return self._ask(self._connections[:1], OneByOne(seconds))[0]

    @staticmethod
    def _ask(connections: Sequence[Connection], task: Task) -> list[list[float]]:
        for connection in connections:
            connection.send(task)
        return [connection.recv() for connection in connections]
