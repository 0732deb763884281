"""A stub of Airflow that answers REST calls as the real one does, and fails on demand."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus

STALL_S = 0.4  # longer than the time limit of a client in the tests
_RUNS = "dagRuns"


class Fault(Enum):
    """The fault that takes the place of an answer."""

    CUT_BEFORE = auto()
    """The request is not carried out, and the connection is cut."""
    CUT_AFTER = auto()
    """The request is carried out, but the connection is cut."""
    STALL = auto()
    """The request is carried out, but the answer comes too late."""
    ERROR_500 = auto()
    ERROR_503 = auto()
    LOGGED_OUT = auto()
    """401: no token that was given out so far is valid any more."""


_STATUSES: dict[Fault | None, int] = {Fault.ERROR_500: 500, Fault.ERROR_503: 503}


@dataclass
class StubAirflow:
    """Keeps runs by id. A run succeeds after `polls` questions about it."""

    fault: Callable[[], Fault | None] = lambda: None
    """Called at each request; None means that the request is answered properly."""
    polls: int = 1
    port: int = 0
    created: list[str] = field(default_factory=list)
    """Ids of runs in the order in which they were created."""
    created_at: list[float] = field(default_factory=list)
    """The times of their creation, by time.perf_counter."""
    repeats: int = 0
    """How many posts named a run that existed already; each was answered with 409."""
    faults: int = 0
    _questions: dict[str, int] = field(default_factory=dict)
    _confs: dict[str, object] = field(default_factory=dict)
    _token: int = 0

    @property
    def url(self) -> str:
        """The URL of the stub."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, object]:
        """Return status and document of the real Airflow's answer."""
        if path == "/auth/token":
            self._token += 1
            return 201, {"access_token": str(self._token)}
        if token != f"Bearer {self._token}":
            return 401, {"detail": "Invalid JWT token"}
        run = path.partition(f"/{_RUNS}/")[2]
        if method == "GET" and not run:
            return 200, {"is_paused": False}
        if method == "GET":
            return self._state(run)
        if run.endswith("/clear"):
            self._questions[run.removesuffix("/clear")] = 0
            return 200, {}
        return self._create(**json.loads(body))

    def _create(self, dag_run_id: str, conf: object, **_: object) -> tuple[int, object]:
        run = dag_run_id
        if run in self._questions:
            self.repeats += 1
            return 409, {"detail": {"reason": "Unique constraint violation"}}
        self._questions[run] = 0
        self._confs[run] = conf
        self.created_at.append(time.perf_counter())
        self.created.append(run)
        return 200, {"dag_run_id": run, "state": "queued"}

    def _state(self, run: str) -> tuple[int, object]:
        if run not in self._questions:
            return 404, {"detail": "not found"}
        self._questions[run] += 1
        state = "success" if self._questions[run] > self.polls else "running"
        return 200, {"state": state, "conf": self._confs[run]}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it is closed or a fault cuts it."""
        try:
            while request := await _read(reader):
                if not await self._respond(writer, *request):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client hung up, or the stub is being closed
        finally:
            writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, method: str, path: str, token: str, body: bytes
    ) -> bool:
        fault = self.fault()
        self.faults += fault is not None
        if fault is Fault.CUT_BEFORE:
            return False
        if fault is Fault.LOGGED_OUT:
            self._token += 1
        if fault in _STATUSES:
            status: int = _STATUSES[fault]
            document: object = {"detail": "injected"}
        else:
            status, document = self.answer(method, path, token, body)
        if fault is Fault.CUT_AFTER:
            return False
        if fault is Fault.STALL:
            await asyncio.sleep(STALL_S)
        text = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        writer.write(head.encode() + text)
        await writer.drain()
        return True


@asynccontextmanager
async def running_stub_airflow(airflow: StubAirflow) -> AsyncIterator[StubAirflow]:
    """Let the stub listen on its port of loopback, a free one when the port is 0."""
    server = await asyncio.start_server(airflow.serve, "127.0.0.1", airflow.port)
    airflow.port = server.sockets[0].getsockname()[1]
    try:
        yield airflow
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, str, bytes] | None:
    """Return method, path, Authorization and body of the next request; None at the end."""
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return method, path, headers.get("authorization", ""), body
