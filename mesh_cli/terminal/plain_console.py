"""A console that shows text as it is.

Texts and labels are anybody's. One with brackets is no markup, and one with escape sequences must
neither move the cursor nor colour or hide what stands beside it.
"""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
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

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything, with all of its text visible. rich calls this for all that it shows,
        also for a Text, a table or a progress display that was made elsewhere."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(visible(line) for line in lines), segment.style)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def visible(text: str, escape: Callable[[str], str] = _escape) -> str:
    """Return the text with each character that has no sign of its own as an escape, \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        escape(character)
        if unicodedata.category(character) in _UNSEEN and character not in _KEPT
        else character
        for character in text
    )
