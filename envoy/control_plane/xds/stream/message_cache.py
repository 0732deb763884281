"""A cache for functions of one message. Messages cannot be hashed, so it goes by their identity."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

Message = TypeVar("Message")
Result = TypeVar("Result")

REMEMBERED = 64


def once_for_each(
    function: Callable[[Message], Result], remembered: int = REMEMBERED
) -> Callable[[Message], Result]:
    """Remember the results for the latest `remembered` objects, which must not change."""
    results: OrderedDict[int, tuple[Message, Result]] = OrderedDict()

    def recall(message: Message) -> Result:
        # The message is kept too, so that no other object gets its id.
        if id(message) not in results:
            results[id(message)] = message, function(message)
            if len(results) > remembered:
                results.popitem(last=False)
        return results[id(message)][1]

    return recall
