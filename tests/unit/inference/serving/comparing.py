"""Waits for comparisons of Challenger and Champion."""

from tests.twins.replica import until
from tests.unit.inference.parts import TRIAL, Parts


async def compared(both: Parts, requests: int) -> None:
    """Wait until this many requests have been compared."""

    async def are_compared() -> bool:
        return both.served(TRIAL).stats.compared >= requests

    await until(are_compared)
