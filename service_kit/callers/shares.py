"""How much one caller may hold at a time: streams, and bytes of imports.

A caller is the subject of the token that Envoy has checked, or without a token the address from
which Envoy was called. Callers without a token on this machine cannot be told apart, so they have
no shares; calls that did not come through Envoy have none either.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

from service_kit.callers.caller import caller_of as caller_by_token
from service_kit.errors import Exhausted

# Envoy adds the address of its client at the end.
_ADDRESSES_HEADER = "x-forwarded-for"
_RETRY_S = 5.0


def caller_of(context: aio.ServicerContext[Any, Any]) -> str:
    """Return who calls; "" when that is not known."""
    headers = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
    if subject := caller_by_token(headers).name:
        return f"subject {subject}"
    address = headers.get(_ADDRESSES_HEADER, "").rpartition(",")[2].strip()
    try:
        return "" if ipaddress.ip_address(address).is_loopback else f"address {address}"
    except ValueError:
        return ""


class Shares:
    """Counts what each caller holds, and refuses what goes beyond its share or beyond all room."""

    def __init__(self, what: str, of_caller: int, of_all: int | None = None) -> None:
        """`what` is held, in words for the refusal, such as "streams of PredictStream".

        `of_all`: how much all callers together may hold; None: no limit.
        """
        self._what = what
        self._of_caller = of_caller
        self._of_all = of_all
        self._held: Counter[str] = Counter()
        self._total = 0

    def take(self, caller: str, amount: int = 1) -> None:
        """Give more to a caller. Raises Exhausted; then the caller has what it had before."""
        if caller and self._held[caller] + amount > self._of_caller:
            self._forget_if_nothing(caller)
            raise Exhausted(
                f"this caller ({caller}) may have {self._of_caller:,} {self._what} at a time; "
                "try again when some of them have ended",
                _RETRY_S,
            )
        if self._of_all is not None and self._total + amount > self._of_all:
            self._forget_if_nothing(caller)
            raise Exhausted(
                f"all callers together may have {self._of_all:,} {self._what} at a time; "
                "try again a little later",
                _RETRY_S,
            )
        self._held[caller] += amount
        self._total += amount

    def give_back(self, caller: str, amount: int = 1) -> None:
        """Take back what a caller has used up."""
        self._held[caller] -= amount
        self._total -= amount
        self._forget_if_nothing(caller)

    @contextmanager
    def held(self, context: aio.ServicerContext[Any, Any]) -> Iterator[None]:
        """Hold one for the caller of this call. Raises Exhausted."""
        caller = caller_of(context)
        self.take(caller)
        try:
            yield
        finally:
            self.give_back(caller)

    def __len__(self) -> int:
        """Return how many callers hold anything."""
        return len(self._held)

    def _forget_if_nothing(self, caller: str) -> None:
        if not self._held[caller]:
            del self._held[caller]
