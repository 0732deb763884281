"""A console that shows text as it is.

Texts and labels are anybody's. One with brackets is no markup, and one with escape sequences must
neither move the cursor nor colour or hide what stands beside it.
"""

import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

# Categories of Unicode: control characters, invisible format characters (among them those that turn
# the direction of writing), and separators that begin a new line.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
# Joiners inside words and emoji, of which many languages have need.
_KEPT = frozenset("\u200c\u200d")


class PlainConsole(Console):
    """Prints strings without markup; what is coloured comes as a rich Text."""

    def render_str(self, text: str, *, style: Any = "", **options: Any) -> Text:
        """Return the text as it is. rich calls this for every string that it prints."""
        shown = "\n".join(visible(line) for line in text.split("\n"))
        justify, overflow = options.get("justify"), options.get("overflow")
        return Text(shown, style=style, justify=justify, overflow=overflow)


def visible(text: str) -> str:
    """Return the text with each character that has no sign of its own as an escape, \\x1b."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN or character in _KEPT:
        return character
    return character.encode("unicode_escape").decode("ascii")
