"""Examples that callers send: their checks, and the spool that PostgreSQL's COPY reads."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from service_kit.callers.shares import Shares
from service_kit.errors import InvalidArgument, Unavailable
from service_kit.limits import MAX_EXAMPLES, check_label, check_text

SPLITS = ("train", "test")
MAX_DELETED_TEXTS = 1_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_IN_MEMORY_BYTES = 8 * 1024 * 1024  # a larger spool is a file on disk


@dataclass(frozen=True)
class Example:
    """A labelled text; `split` is "train", "test" or empty."""

    text: str
    label: str
    split: str = ""


def check_example(example: Example, index: int) -> Example:
    """Return `example`, or raise InvalidArgument that names it by `index`."""
    place = f"examples[{index}]"
    check_text(_without_nul(example.text, f"{place}.text"), f"{place}.text")
    check_label(_without_nul(example.label, f"{place}.label"), f"{place}.label")
    if example.split and example.split not in SPLITS:
        raise InvalidArgument(f"{place}.split", f"{example.split!r} is neither train nor test")
    return example


def check_example_count(examples: int) -> None:
    """Raise InvalidArgument when one message has more examples than the limit."""
    if examples > MAX_EXAMPLES:
        raise InvalidArgument(
            "examples", f"has {examples:,} examples; send at most {MAX_EXAMPLES:,} a message"
        )


def check_texts_to_delete(texts: Sequence[str]) -> None:
    """Raise InvalidArgument unless there are 1 to 1,000 texts that PostgreSQL can compare with."""
    if not 1 <= len(texts) <= MAX_DELETED_TEXTS:
        raise InvalidArgument(
            "texts", f"has {len(texts):,} texts; send 1 to {MAX_DELETED_TEXTS:,} a request"
        )
    for index, text in enumerate(texts):
        _without_nul(text, f"texts[{index}]")


def _without_nul(value: str, field: str) -> str:
    if "\0" in value:
        raise InvalidArgument(field, "has a NUL character, which PostgreSQL cannot store")
    return value


class Spool:
    """Checked examples in the text format of COPY, in memory or, beyond 8 MiB, on disk."""

    def __init__(
        self, folder: Path | None, max_bytes: int, room: Shares | None = None, caller: str = ""
    ) -> None:
        """`room`: what the imports of each caller and of all together may take, in bytes."""
        # Not in a `with` block, because the file has to outlive this method; close() closes it.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY_BYTES, dir=None if folder is None else str(folder), prefix="import-"
        )
        self._max_bytes = max_bytes
        self._room = room
        self._caller = caller
        self._taken = 0
        self.count = 0

    def add(self, examples: Iterable[Example]) -> None:
        """Check and append examples.

        Raises InvalidArgument for a bad example or too many bytes, Exhausted when the imports of
        this caller or of all callers take too much, Unavailable when the disk of the spool is full.
        """
        lines = []
        for example in examples:
            check_example(example, self.count)
            fields = (str(self.count), example.text, example.label, example.split)
            lines.append("\t".join(field.translate(_ESCAPES) for field in fields) + "\n")
            self.count += 1
        written = "".join(lines).encode()
        if self._room is not None:
            self._room.take(self._caller, len(written))
            self._taken += len(written)
        try:
            self._file.write(written)
        except OSError as error:
            raise Unavailable(
                f"the trigger service cannot keep the import on its disk: {error.strerror}"
            ) from error
        if self._file.tell() > self._max_bytes:
            raise InvalidArgument(
                "examples", f"one import takes at most {self._max_bytes:,} bytes of rows"
            )

    def rewound(self) -> IO[bytes]:
        """Return the file, positioned at its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
        if self._room is not None and self._taken:
            self._room.give_back(self._caller, self._taken)
            self._taken = 0
