"""Where the replicas are: a list, a file that may change, or names in DNS."""

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
# A name server that is away must not empty the fleet; an address that long unconfirmed may be
# somebody else's by now.
KEEP_S = 300.0
LOOKUP_TIMEOUT_S = 10.0
FIRST_LOOKUP_S = 2.0

# IP addresses of a host. Raises OSError, or UnicodeError for what cannot be a name.
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class Discovery(Protocol):
    """Knows the replicas' addresses."""

    async def addresses(self) -> tuple[str, ...]:
        """host:port of every replica as far as is known now, each once. Raises nothing."""

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
    """A file with one host:port a line, read again at each look; write it atomically.

    While it is missing or has a line that is no address, what was last read holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[str, ...] = ()
        self._trouble = _Trouble(f"replicas file {path}")

    async def addresses(self) -> tuple[str, ...]:
        try:
            lines = self._path.read_text().split("\n")
            found = [str(Address.parse(line)) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            self._trouble.say(error)
        else:
            self._trouble.is_over()
            self._known = tuple(dict.fromkeys(found))
        return self._known

    async def close(self) -> None:
        return


async def resolve(host: str) -> Sequence[str]:
    """IP addresses of a host, sorted: those of IPv4 if it has any, else those of IPv6.

    A host with both is one replica and not two. Raises OSError and UnicodeError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return sorted({str(sockaddr[0]) for family, *_, sockaddr in found if family == wanted})


class DnsDiscovery:
    """Every address of a name is a replica; the name is looked up again while it is asked for."""

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
            # Later lookups go on beside whoever asks: a slow name server holds up nothing.
            await asyncio.wait({self._lookup}, timeout=FIRST_LOOKUP_S)
        return self._known

    async def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.wait({self._lookup})

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                found = await self._resolve(self._name.host)
        except (OSError, UnicodeError) as error:
            self._trouble.say(error)
            if _now() - self._answered_at > self._keep_s:
                self._known = ()
        else:
            self._trouble.is_over()
            self._known = tuple(str(Address(host, self._name.port)) for host in found)
            self._answered_at = _now()
        self._next_at = _now() + self._refresh_s


class JointDiscovery:
    """Several sources together."""

    def __init__(self, sources: Sequence[Discovery]) -> None:
        self._sources = tuple(sources)

    async def addresses(self) -> tuple[str, ...]:
        found = await asyncio.gather(*(source.addresses() for source in self._sources))
        return tuple(dict.fromkeys(chain.from_iterable(found)))

    async def close(self) -> None:
        await asyncio.gather(*(source.close() for source in self._sources))


def replica_address(text: str) -> Address:
    """Read `host:port` or `dns://host:port`; a name is looked up either way. Raises ValueError."""
    return Address.parse(text.strip().removeprefix(DNS))


def discover(replicas: Sequence[str], file: Path | None) -> Discovery:
    """Find replicas by addresses, names and, if there is one, a file. Raises ValueError."""
    addresses = [replica_address(text) for text in replicas]
    sources: list[Discovery] = [FixedDiscovery([str(a) for a in addresses if a.is_ip])]
    sources += [DnsDiscovery(address) for address in addresses if not address.is_ip]
    if file is not None:
        sources.append(FileDiscovery(file))
    return JointDiscovery(sources)


class _Trouble:
    """Logs a problem once, until it is another one or over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = ""

    def say(self, error: Exception) -> None:
        why = str(error) or type(error).__name__
        if why != self._said:
            log.warning("replicas not found", extra={"what": self._what, "why": why})
        self._said = why

    def is_over(self) -> None:
        if self._said:
            log.info("replicas found again", extra={"what": self._what})
        self._said = ""


def _now() -> float:
    return asyncio.get_running_loop().time()
