"""The connections to the replicas: one for each address that is known now."""

import asyncio
from collections.abc import Callable, Sequence

from control_plane.fleet.discovery import Discovery, FixedDiscovery
from control_plane.fleet.replica_client import ReplicaClient


class ReplicaConnections:
    """Opens a client for each new address and closes those whose address is gone."""

    def __init__(self, discovery: Discovery, connect: Callable[[str], ReplicaClient]) -> None:
        self._discovery = discovery
        self._connect = connect
        self._clients: dict[str, ReplicaClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, clients: Sequence[ReplicaClient]) -> "ReplicaConnections":
        """Replicas that never change."""
        by_address = {client.address: client for client in clients}
        return cls(FixedDiscovery(tuple(by_address)), by_address.__getitem__)

    async def clients(self) -> list[ReplicaClient]:
        """Every replica's client as of now."""
        addresses = await self._discovery.addresses()
        for address in self._clients.keys() - set(addresses):
            self._retire(self._clients.pop(address))
        for address in addresses:
            if address not in self._clients:
                self._clients[address] = self._connect(address)
        return [self._clients[address] for address in addresses]

    async def close(self) -> None:
        """Close every client and stop looking for more."""
        await self._discovery.close()
        open_clients = (client.close() for client in self._clients.values())
        await asyncio.gather(*self._closing, *open_clients)

    def _retire(self, client: ReplicaClient) -> None:
        # It closes when its calls in flight have ended, which nobody need wait for.
        task = asyncio.create_task(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
