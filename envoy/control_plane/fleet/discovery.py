"""Finds the replicas' addresses: in a list, in a file that may change, or by names in DNS."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from control_plane.topology import Address

log = logging.getLogger(__name__)

DNS = "dns://"
REFRESH_S = 3.0
# Seconds that an address stays without being confirmed. A name server that is away must not empty
# the fleet; but after five minutes the address may belong to another machine.
KEEP_S = 300.0
LOOKUP_TIMEOUT_S = 10.0
FIRST_LOOKUP_S = 2.0

# Returns a host's IP addresses. Raises OSError, or UnicodeError for text that cannot be a name.
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class Discovery(Protocol):
    """Knows the replicas' addresses."""

    async def addresses(self) -> tuple[str, ...]:
        """Return the host:port of every replica known now, each once. Raises nothing."""

    async def close(self) -> None:
        """Stop looking."""


class FixedDiscovery:
    """Addresses that never change."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))

    async def addresses(self) -> tuple[str, ...]:
        return self._addresses

    async def close(self) -> None:
        return


class FileDiscovery:
    """A file with one host:port a line, read again at each look; its writers replace it atomically.

    While the file is missing or has a line that is no address, the addresses last read hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[str, ...] = ()
        self._trouble = _Trouble(f"replicas file {path}")

    async def addresses(self) -> tuple[str, ...]:
        try:
            lines = self._path.read_text().split("\n")
            addresses = [str(Address.parse(line)) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            self._trouble.say(error)
        else:
            self._trouble.is_over()
            self._known = tuple(dict.fromkeys(addresses))
        return self._known

    async def close(self) -> None:
        return


async def resolve(host: str) -> Sequence[str]:
    """Return the IP addresses of a host, sorted: its IPv4 addresses if it has any, else IPv6.

    So a host with both families is one replica and not two. Raises OSError and UnicodeError.
    """
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    families = {family for family, *_ in answers}
    wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return sorted({str(sockaddr[0]) for family, *_, sockaddr in answers if family == wanted})


class DnsDiscovery:
    """Each address of a name is a replica.

    A call of `addresses` has the name looked up again when `refresh_s` seconds have passed.
    """

    def __init__(
        self,
        name: Address,
        resolve: Resolve = resolve,
        refresh_s: float = REFRESH_S,
        keep_s: float = KEEP_S,
    ) -> None:
        self._name = name
        self._resolve = resolve
        self._refresh_s = refresh_s
        self._keep_s = keep_s
        self._known: tuple[str, ...] = ()
        self._answered_at = 0.0
        self._next_at = 0.0
        self._lookup: asyncio.Task[None] | None = None
        self._trouble = _Trouble(f"address of {name}")

    async def addresses(self) -> tuple[str, ...]:
        if self._lookup is None or (self._lookup.done() and _now() >= self._next_at):
            self._lookup = asyncio.create_task(self._look_up())
        if not self._known:
            # Only the first lookup is waited for, so a slow name server holds up no later caller.
            await asyncio.wait({self._lookup}, timeout=FIRST_LOOKUP_S)
        return self._known

    async def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.wait({self._lookup})

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                hosts = await self._resolve(self._name.host)
        except (OSError, UnicodeError) as error:
            self._trouble.say(error)
            if _now() - self._answered_at > self._keep_s:
                self._known = ()
        else:
            self._trouble.is_over()
            self._known = tuple(str(Address(host, self._name.port)) for host in hosts)
            self._answered_at = _now()
        self._next_at = _now() + self._refresh_s


class JointDiscovery:
    """Several sources together."""

    def __init__(self, sources: Sequence[Discovery]) -> None:
        self._sources = tuple(sources)

    async def addresses(self) -> tuple[str, ...]:
        parts = await asyncio.gather(*(source.addresses() for source in self._sources))
        return tuple(dict.fromkeys(chain.from_iterable(parts)))

    async def close(self) -> None:
        await asyncio.gather(*(source.close() for source in self._sources))


def replica_address(text: str) -> Address:
    """Read `host:port` or `dns://host:port`, which mean the same. Raises ValueError."""
    return Address.parse(text.strip().removeprefix(DNS))


def discover(replicas: Sequence[str], file: Path | None) -> Discovery:
    """Discover replicas by addresses, by names and in a file, if any. Raises ValueError."""
    addresses = [replica_address(text) for text in replicas]
    sources: list[Discovery] = [FixedDiscovery([str(a) for a in addresses if a.is_ip])]
    sources += [DnsDiscovery(address) for address in addresses if not address.is_ip]
    if file is not None:
        sources.append(FileDiscovery(file))
    return JointDiscovery(sources)


class _Trouble:
    """Logs a problem with a source of addresses once: when it begins, changes or is over."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._logged = ""

    def say(self, error: Exception) -> None:
        why = str(error) or type(error).__name__
        if why != self._logged:
            log.warning("replicas not found", extra={"what": self._source, "why": why})
        self._logged = why

    def is_over(self) -> None:
        if self._logged:
            log.info("replicas found again", extra={"what": self._source})
        self._logged = ""


def _now() -> float:
    return asyncio.get_running_loop().time()
