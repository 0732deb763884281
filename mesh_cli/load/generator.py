"""Runs a load in this process."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle

from mesh_cli.load.plan.arrivals import arrival_offsets
from mesh_cli.load.plan.spec import LoadSpec, OpenLoop
from mesh_cli.load.results.recorder import Recorder
from mesh_cli.load.results.result import LoadResult, from_recorder
from mesh_cli.load.wire.connection_pool import OK, ConnectionPool
from mesh_cli.load.wire.grpc_pool import GrpcPool
from mesh_cli.load.wire.http_pool import HttpPool
from mesh_cli.load.wire.request_encoding import encode_requests

# Requests that a late generator sends before it reads answers again.
BURST = 32
# Seconds between a closed loop's checks whether its process gets to run in time.
PROBE_S = 0.02
# Seconds that a client waits after a failed request: a server that is away is not asked in a tight
# loop.
ERROR_PAUSE_S = 0.01

Started = Callable[[float], None]


async def generate(spec: LoadSpec, started: Started | None = None) -> LoadResult:
    """Run a load on the running event loop until every request is answered or out of time.

    `started` is called once, with the moment at which the measured part begins, in seconds of
    time.monotonic(). Raises NotUp when no server answers at the address.
    """
    requests = cycle(encode_requests(spec))
    recorder = Recorder()
    run: _Run = (_OpenRun if isinstance(spec.loop, OpenLoop) else _ClosedRun)(
        spec, requests, recorder
    )
    pool: ConnectionPool = (GrpcPool if spec.protocol == "grpc" else HttpPool)(spec, run.answered)
    await pool.open()
    try:
        cpu = time.process_time()
        begin = time.monotonic()
        if started is not None:
            started(begin + spec.warm_up_s)
        await run.until_answered(pool, begin)
        cpu = time.process_time() - cpu
    finally:
        await pool.close()
    return from_recorder(spec, recorder, begin + spec.warm_up_s, cpu)


class _Run:
    """A load in progress: sends requests and counts those that are not answered yet."""

    def __init__(self, spec: LoadSpec, requests: Iterator[bytes], recorder: Recorder) -> None:
        self._spec = spec
        self._requests = requests
        self._recorder = recorder
        self._unanswered = 0
        self._all_sent = False
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def until_answered(self, pool: ConnectionPool, begin: float) -> None:
        """Send every request and wait for all answers."""
        self._pool = pool
        self._measured_from = begin + self._spec.warm_up_s
        self._start(begin, self._measured_from + self._spec.duration_s)
        await self._over.wait()

    def answered(self, due: float, code: str, body: bytes) -> None:
        """Record the answer to one request; the pool calls this."""
        self._recorder.answered(due, code, body)
        self._unanswered -= 1
        self._check_over()

    def _start(self, begin: float, end: float) -> None:
        raise NotImplementedError

    def _send(self, due: float) -> None:
        self._unanswered += 1
        self._pool.send(next(self._requests), due)

    def _lagged(self, due: float, now: float) -> None:
        """Record that the generator acts `now` (seconds) where it should have acted at `due`."""
        if due >= self._measured_from:
            self._recorder.lag.append(now - due)

    def _check_over(self) -> None:
        if self._all_sent and not self._unanswered:
            self._over.set()


class _OpenRun(_Run):
    def _start(self, begin: float, end: float) -> None:
        assert isinstance(self._spec.loop, OpenLoop)
        self._moments = (begin + offset for offset in arrival_offsets(self._spec.loop, end - begin))
        self._due = next(self._moments, None)
        self._pump()

    def _pump(self) -> None:
        """Send the requests that are due. The latency of a late one counts from when it was due."""
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
