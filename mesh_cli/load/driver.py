"""Runs a load in this process."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle

from mesh_cli.load.plan.arrivals import offsets
from mesh_cli.load.plan.spec import LoadSpec, OpenLoop
from mesh_cli.load.results.recorder import Recorder
from mesh_cli.load.results.result import LoadResult, from_recorder
from mesh_cli.load.wire.door import OK, Door
from mesh_cli.load.wire.encode import encode
from mesh_cli.load.wire.grpc_door import GrpcDoor
from mesh_cli.load.wire.http_door import HttpDoor

# A generator that is behind looks at the answers after so many requests.
BURST = 32
# How often a closed loop checks whether its process gets its turns.
PROBE_S = 0.02
# A client whose request failed waits so long: a server that is away is not asked in a tight loop.
ERROR_PAUSE_S = 0.01

Started = Callable[[float], None]


async def generate(spec: LoadSpec, started: Started | None = None) -> LoadResult:
    """Run a load on the running event loop until every request is answered or out of time.

    `started` is called with the moment (time.monotonic()) at which the measured part begins.
    Raises NotUp when nobody answers at the address.
    """
    requests = cycle(encode(spec))
    recorder = Recorder()
    run: _Run = (_OpenRun if isinstance(spec.loop, OpenLoop) else _ClosedRun)(
        spec, requests, recorder
    )
    door: Door = (GrpcDoor if spec.protocol == "grpc" else HttpDoor)(spec, run.answered)
    await door.open()
    try:
        cpu = time.process_time()
        begin = time.monotonic()
        if started is not None:
            started(begin + spec.warm_up_s)
        await run.until_answered(door, begin)
        cpu = time.process_time() - cpu
    finally:
        await door.close()
    return from_recorder(spec, recorder, begin + spec.warm_up_s, cpu)


class _Run:
    """A load in progress: sends, and counts what is still to be answered."""

    def __init__(self, spec: LoadSpec, requests: Iterator[bytes], recorder: Recorder) -> None:
        self._spec = spec
        self._requests = requests
        self._recorder = recorder
        self._unanswered = 0
        self._all_sent = False
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def until_answered(self, door: Door, begin: float) -> None:
        """Send everything and wait for the answers."""
        self._door = door
        self._measured_from = begin + self._spec.warm_up_s
        self._start(begin, self._measured_from + self._spec.duration_s)
        await self._over.wait()

    def answered(self, due: float, code: str, body: bytes) -> None:
        """A request was answered."""
        self._recorder.answered(due, code, body)
        self._unanswered -= 1
        self._check_over()

    def _start(self, begin: float, end: float) -> None:
        raise NotImplementedError

    def _send(self, due: float) -> None:
        self._unanswered += 1
        self._door.send(next(self._requests), due)

    def _lagged(self, due: float, now: float) -> None:
        """The generator had to act at `due` and does so now."""
        if due >= self._measured_from:
            self._recorder.lag.append(now - due)

    def _check_over(self) -> None:
        if self._all_sent and not self._unanswered:
            self._over.set()


class _OpenRun(_Run):
    def _start(self, begin: float, end: float) -> None:
        assert isinstance(self._spec.loop, OpenLoop)
        self._moments = (begin + offset for offset in offsets(self._spec.loop, end - begin))
        self._due = next(self._moments, None)
        self._pump()

    def _pump(self) -> None:
        """Send what is due; what is late is sent late, and its latency counts from `due`."""
        for _ in range(BURST):
            if self._due is None:
                self._all_sent = True
                self._check_over()
                return
            now = time.monotonic()
            if now < self._due:
                self._loop.call_at(self._due, self._pump)
                return
            self._lagged(self._due, now)
            self._send(self._due)
            self._due = next(self._moments, None)
        self._loop.call_soon(self._pump)


class _ClosedRun(_Run):
    def _start(self, begin: float, end: float) -> None:
        assert not isinstance(self._spec.loop, OpenLoop)
        self._end = end
        self._clients = self._spec.loop.clients
        self._loop.call_at(begin + PROBE_S, self._probe, begin + PROBE_S)
        for _ in range(self._clients):
            self._next()

    def answered(self, due: float, code: str, body: bytes) -> None:
        super().answered(due, code, body)
        if code == OK:
            self._next()
        else:
            self._loop.call_later(ERROR_PAUSE_S, self._next)

    def _next(self) -> None:
        now = time.monotonic()
        if now < self._end:
            self._send(now)
            return
        self._clients -= 1
        self._all_sent = self._clients == 0
        self._check_over()

    def _probe(self, due: float) -> None:
        now = time.monotonic()
        self._lagged(due, now)
        if now < self._end:
            self._loop.call_at(now + PROBE_S, self._probe, now + PROBE_S)
