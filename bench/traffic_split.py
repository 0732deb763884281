"""The time until a traffic split takes hold, and its accuracy.

`python -m bench.traffic_split`: a real Envoy, MLflow, PostgreSQL and control plane in front of two
replicas without a model, so that only the mesh is measured. All traffic is moved from the Champion
to the Challenger and back; the time runs from sending SetTraffic to the first answer by the other
version. Then the answers of each version are counted for some splits, over gRPC.
"""

import asyncio
import time
from collections import Counter
from typing import Annotated, Any

import numpy as np
import typer
from grpc import aio
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.kit.modelless_mesh import (
    control_plane_process,
    run_with_modelless_mesh,
    without_its_control_plane,
)
from mesh.v1 import predict_pb2, predict_pb2_grpc, reload_pb2, reload_pb2_grpc
from tests.twins.steered_mesh import SteeredMesh

MODEL = "split"
SPLITS = (5, 10, 25, 50)
IN_FLIGHT = 32
console = Console()


class Probe:
    """A client that sends requests without a pause and reads the version of each answer."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        self._request = predict_pb2.PredictRequest(model=MODEL, texts=["a"])

    async def first_answer(self, version: str) -> float:
        """Send requests until `version` answers; return that moment, seconds of perf_counter()."""
        while (await self._stub.Predict(self._request, timeout=10)).model.version != version:
            pass
        return time.perf_counter()

    async def count(self, calls: int) -> Counter[str]:
        """Send `calls` requests, IN_FLIGHT at a time; return the answers by version."""
        answers: Counter[str] = Counter()

        async def client() -> None:
            for _ in range(calls // IN_FLIGHT):
                answers[(await self._stub.Predict(self._request, timeout=10)).model.version] += 1

        await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
        return answers


async def _answers(mesh: SteeredMesh) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await mesh.http.get(f"/models/{MODEL}/traffic")).is_success:
                return
            await asyncio.sleep(0.05)


async def _measure(mesh: SteeredMesh, changes: int, calls: int) -> None:
    champion = await mesh.served(MODEL)
    challenger = await mesh.challenged(MODEL)
    # The control plane gets a process of its own, so that it need not wait for the client and the
    # replicas, which share this one.
    async with (
        without_its_control_plane(mesh),
        control_plane_process(mesh.settings),
        aio.insecure_channel(mesh.envoy.address) as channel,
    ):
        await _answers(mesh)
        probe = Probe(channel)
        reload: Any = reload_pb2_grpc.ReloadServiceStub(channel)
        await mesh.split(MODEL, 99, 1)
        taken = []
        for number in track(range(changes), "moving the traffic"):
            to_challenger = number % 2 == 0
            # A mirror keeps the Challenger in its slot while it gets no weight.
            request = reload_pb2.SetTrafficRequest(
                model=MODEL,
                champion_weight=0 if to_challenger else 100,
                challenger_weight=100 if to_challenger else 0,
                mirror_percent=1,
            )
            started = time.perf_counter()
            moment, _ = await asyncio.gather(
                probe.first_answer(challenger if to_challenger else champion),
                reload.SetTraffic(request, timeout=10),
            )
            taken.append((moment - started) * 1e3)
        quantiles = np.percentile(taken, [50, 99])
        console.print(
            f"SetTraffic to the first answer by the new weights, {changes} changes: "
            f"p50 {quantiles[0]:.0f} ms, p99 {quantiles[1]:.0f} ms, max {max(taken):.0f} ms"
        )
        table = Table("asked %", "observed %", "requests", title="Share of the Challenger")
        for share in SPLITS:
            await mesh.split(MODEL, 100 - share, share)
            answers = await probe.count(calls)
            total = sum(answers.values())
            table.add_row(str(share), f"{100 * answers[challenger] / total:.2f}", f"{total:,}")
        console.print(table)


def main(
    changes: Annotated[int, typer.Option(help="Changes of the weights to time.")] = 200,
    calls: Annotated[int, typer.Option(help="Requests to count for each split.")] = 10_000,
) -> None:
    """Start the mesh, measure, print."""

    run_with_modelless_mesh(lambda mesh: _measure(mesh, changes, calls), console)


if __name__ == "__main__":
    typer.run(main)
