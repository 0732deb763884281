"""Of two control planes one leads, and one that was deposed finds out before it writes."""

import asyncio

import pytest

from control_plane.leadership.leadership import CONFIRMED_S, Leadership
from control_plane.leadership.lease import LEASE_S, Holder
from service_kit.errors import NotLeading, Unavailable
from tests.real_parts.waiting import until

FIRST, SECOND = Holder("a", "one:1"), Holder("b", "two:1")


class TwinLease:
    """A Lease in memory, by a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.up = True
        self.holder: Holder | None = None
        self.renewed_at = 0.0
        self.renewals = 0

    async def renew(self, holder: Holder) -> Holder:
        if not self.up:
            raise Unavailable("PostgreSQL is away")
        self.renewals += 1
        held = self.holder
        expired = self.now - self.renewed_at > LEASE_S
        if held is None or expired or held == holder or held.address == holder.address:
            self.holder, self.renewed_at = holder, self.now
        assert self.holder
        return self.holder

    async def release(self, holder: Holder) -> None:
        if self.holder == holder:
            self.holder = None


class Told:
    """Notes what a Leadership says."""

    def __init__(self, lease: TwinLease, me: Holder) -> None:
        self.news: list[str] = []
        self.leadership = Leadership(lease, me, lambda: lease.now, self._gained, self._lost)

    async def _gained(self) -> None:
        self.news.append("gained")

    async def _lost(self) -> None:
        self.news.append("lost")


async def test_only_the_first_one_leads_and_the_other_names_it() -> None:
    lease = TwinLease()
    one, two = Told(lease, FIRST).leadership, Told(lease, SECOND).leadership
    await one.confirm()
    with pytest.raises(NotLeading, match="the control plane at one:1 leads"):
        await two.confirm()


async def test_a_leader_that_does_not_renew_is_followed() -> None:
    lease = TwinLease()
    one, two = Told(lease, FIRST).leadership, Told(lease, SECOND).leadership
    await one.confirm()
    lease.now = LEASE_S + 0.1
    await two.confirm()
    with pytest.raises(NotLeading, match="two:1"):
        await one.confirm()


async def test_a_deposed_leader_asks_before_it_writes() -> None:
    lease = TwinLease()
    one, two = Told(lease, FIRST).leadership, Told(lease, SECOND).leadership
    await one.confirm()
    assert CONFIRMED_S < LEASE_S, "it stops to trust its lease before another one may take it"
    lease.now = CONFIRMED_S - 0.1
    await one.confirm()
    assert lease.renewals == 1, "a fresh lease is not asked for again"
    lease.now = LEASE_S + 0.1
    await two.confirm()
    with pytest.raises(NotLeading):
        await one.confirm()


async def test_a_leader_that_stood_still_without_a_follower_goes_on() -> None:
    lease = TwinLease()
    one = Told(lease, FIRST).leadership
    await one.confirm()
    lease.now = 100.0
    await one.confirm()


async def test_without_the_lease_nothing_is_confirmed() -> None:
    lease = TwinLease()
    one = Told(lease, FIRST).leadership
    await one.confirm()
    lease.up, lease.now = False, CONFIRMED_S
    with pytest.raises(Unavailable, match="PostgreSQL is away"):
        await one.confirm()


async def test_a_new_process_at_the_address_of_the_leader_leads_at_once() -> None:
    lease = TwinLease()
    await Told(lease, FIRST).leadership.confirm()
    await Told(lease, Holder("c", FIRST.address)).leadership.confirm()


async def test_gaining_and_losing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.leadership.leadership.RENEW_S", 0.001)
    lease = TwinLease()
    told = Told(lease, FIRST)
    running = asyncio.create_task(told.leadership.run())
    await until(lambda: told.news == ["gained"])
    lease.holder = SECOND
    await until(lambda: told.news == ["gained", "lost"])
    lease.now += LEASE_S + 0.1
    await until(lambda: told.news == ["gained", "lost", "gained"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await told.leadership.release()
    # The lease is free again.
    await Told(lease, SECOND).leadership.confirm()
