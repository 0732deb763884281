"""Parameters of requests.

A parameter asks for something beyond the plain answer, so one that is not known here is refused: an
answer that ignored it would be wrong.
"""

from collections.abc import Iterable
from typing import Any

from service_kit.errors import InvalidArgument

# How clients of MLServer mark a BYTES tensor of UTF-8 texts, which is what `text` is anyway.
CONTENT_TYPE = "content_type"
_TEXTS = "str"


def check_parameters(field: str, parameters: Iterable[tuple[str, Any]], *known: str) -> None:
    """Raise InvalidArgument for a parameter that is not `known`, or whose value is not.

    A value None is a parameter that is absent.
    """
    for name, value in parameters:
        if value is None:
            continue
        if name not in known:
            taken = f"known are {', '.join(known)}" if known else "none is"
            raise InvalidArgument(field, f"{name[:60]!r} is not known here; {taken}")
        if name == CONTENT_TYPE and value != _TEXTS:
            problem = f"{CONTENT_TYPE} is {str(value)[:60]!r}; it must be {_TEXTS!r}"
            raise InvalidArgument(field, problem)
