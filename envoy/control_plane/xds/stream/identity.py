"""A cache for functions of one message; messages are equal by content and so cannot be hashed."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

Message = TypeVar("Message")
Result = TypeVar("Result")

REMEMBERED = 64


def once_for_each(
    function: Callable[[Message], Result], remembered: int = REMEMBERED
) -> Callable[[Message], Result]:
    """Remember the results for the last so many objects, which must not change afterwards."""
    known: OrderedDict[int, tuple[Message, Result]] = OrderedDict()

    def recall(message: Message) -> Result:
        # The message is kept, so its id is not given to another one.
        if id(message) not in known:
            known[id(message)] = message, function(message)
            if len(known) > remembered:
                known.popitem(last=False)
        return known[id(message)][1]

    return recall
