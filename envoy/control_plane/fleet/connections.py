"""The connections to the replicas: one for each address that discovery reports."""

import asyncio
from collections.abc import Callable, Sequence

from control_plane.fleet.discovery import Discovery, FixedDiscovery
from control_plane.fleet.replica_client import ReplicaClient


class ReplicaConnections:
    """Opens a client for each new address, and closes the clients of addresses that are gone."""

    def __init__(self, discovery: Discovery, connect: Callable[[str], ReplicaClient]) -> None:
        self._discovery = discovery
        self._connect = connect
        self._clients: dict[str, ReplicaClient] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, clients: Sequence[ReplicaClient]) -> "ReplicaConnections":
        """Return connections that always are these clients."""
        by_address = {client.address: client for client in clients}
        return cls(FixedDiscovery(tuple(by_address)), by_address.__getitem__)

    async def clients(self) -> list[ReplicaClient]:
        """Return the clients of the replicas that there are now."""
        addresses = await self._discovery.addresses()
        for address in self._clients.keys() - set(addresses):
            self._retire(self._clients.pop(address))
        for address in addresses:
            if address not in self._clients:
                self._clients[address] = self._connect(address)
        return [self._clients[address] for address in addresses]

    async def close(self) -> None:
        """Close every client and stop the discovery."""
        await self._discovery.close()
        open_clients = (client.close() for client in self._clients.values())
        await asyncio.gather(*self._closing, *open_clients)

    def _retire(self, client: ReplicaClient) -> None:
        # The client closes when its calls in flight have ended; the caller does not wait for that.
        task = asyncio.create_task(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
