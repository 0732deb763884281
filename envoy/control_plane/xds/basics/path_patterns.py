"""Regular expressions for the paths that templates such as /v1/models/{model} describe."""

import re
from collections.abc import Iterable, Iterator

# Envoy limits an expression to 100 steps, and no character takes more than one.
_MOST_CHARACTERS = 80
_VARIABLE = re.compile(r"{[a-z_]+}")


def joined(patterns: Iterable[str]) -> Iterator[str]:
    """Join patterns into few expressions that Envoy takes: it refuses long ones."""
    joined = ""
    for pattern in patterns:
        if joined and len(joined) + len(pattern) > _MOST_CHARACTERS:
            yield joined
            joined = ""
        joined = f"{joined}|{pattern}" if joined else pattern
    yield joined


def template_pattern(template: str) -> str:
    """Return the regular expression of a template such as /v1/models/{model}:predict.

    A colon begins the name of a custom method, so it is no part of a variable.
    """
    return "[^/:]+".join(map(re.escape, _VARIABLE.split(template)))
