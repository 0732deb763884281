"""Load generator: open and closed loops over gRPC or JSON, safe from coordinated omission.

    spec = LoadSpec("127.0.0.1:8000", "reviews", OpenLoop(rate=200), texts=tuple(read_texts(None)))
    result = run_load(spec)
    print(result.summary()["latencyMs"]["p99"], result.errors())

In an open loop latency counts from the moment at which a request was due. A delay before it is sent
is part of its latency, and no request is left out.
"""

from mesh_cli.load.generator import generate
from mesh_cli.load.generator_process import LoadProcess, run_load
from mesh_cli.load.plan.rate_search import Step, find_rate
from mesh_cli.load.plan.spec import ClosedLoop, LoadSpec, OpenLoop
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.load.results.answering_server import Server
from mesh_cli.load.results.result import Event, Generator, LoadResult, Request

__all__ = [
    "ClosedLoop",
    "Event",
    "Generator",
    "LoadProcess",
    "LoadResult",
    "LoadSpec",
    "OpenLoop",
    "Request",
    "Server",
    "Step",
    "find_rate",
    "generate",
    "read_texts",
    "run_load",
]
