"""Whether this control plane leads. Only the one that leads changes anything.

Every change is fenced: before each write and each call that steers a replica, `confirm` makes sure
that the lease is still held. A control plane that stood still for a while finds out that it was
deposed before its next write.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from control_plane.leadership.lease import LEASE_S, Holder, Lease
from service_kit.errors import NotLeading, Unavailable

log = logging.getLogger(__name__)

RENEW_S = 1.0
# A renewal holds for this time by this machine's clock. It ends before the lease by PostgreSQL's
# clock, so that what was confirmed has time to arrive.
CONFIRMED_S = LEASE_S - 1.5


class Leadership:
    """Holds the lease, or waits for it. `gained` and `lost` are awaited when that changes."""

    def __init__(
        self,
        lease: Lease,
        me: Holder,
        clock: Callable[[], float],
        gained: Callable[[], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        """`clock` gives seconds that go on while the process stands still."""
        self._lease = lease
        self._me = me
        self._clock = clock
        self._gained = gained
        self._lost = lost
        self._confirmed_until = 0.0
        self._asking = asyncio.Lock()
        self._leader: Holder | None = None

    @property
    def leads(self) -> bool:
        """Whether this control plane led when it last asked."""
        return self._leader == self._me

    async def run(self) -> None:
        """Renew the lease, or wait for it, until cancelled."""
        told, away = False, False
        while True:
            try:
                await self._ask()
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("waiting", extra={"what": "the lease", "why": str(error)})
                away = True
            if self.leads != told:
                told = self.leads
                log.info("leads now" if told else "leads no more", extra={"leader": self._name()})
                await (self._gained() if told else self._lost())
            await asyncio.sleep(RENEW_S)

    async def confirm(self) -> None:
        """Return when this control plane leads.

        Raises NotLeading when another one does, and Unavailable when that cannot be known.
        """
        if not self.leads or self._clock() >= self._confirmed_until:
            await self._ask()
        if not self.leads:
            raise NotLeading(
                f"the control plane at {self._name()} leads, and only it changes anything; this "
                "one takes over when that one does not answer: send the same request again"
            )

    async def release(self) -> None:
        """Let another control plane lead at once."""
        if self.leads:
            self._leader, self._confirmed_until = None, 0.0
            try:
                await self._lease.release(self._me)
            except Unavailable as error:
                log.warning("lease not released", extra={"why": str(error)})

    async def _ask(self) -> None:
        async with self._asking:
            asked_at = self._clock()
            self._leader = await self._lease.renew(self._me)
            self._confirmed_until = asked_at + CONFIRMED_S

    def _name(self) -> str:
        return self._leader.address if self._leader else "nowhere"
