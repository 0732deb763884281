"""The services beside the replicas, in one process: `python -m bench.abuse.other_parts PORT`.

They are toys that answer at once, so that nothing but the doors before them is measured.
"""

import asyncio
import sys

from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings
from tests.twins.toy_services import PUBLIC, ToyData, ToyReload, ToyService, ToyTrain

NAMES = ("mesh.v1.TrainService", "mesh.v1.DataService", "mesh.v1.ReloadService")


async def _serve(port: int) -> None:
    service = ToyService(NAMES, train=ToyTrain(), data=ToyData(), reload=ToyReload())
    settings = ServiceSettings(port=port, drain_seconds=0, grace_seconds=0)
    async with GrpcServer(service, settings, PUBLIC):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
