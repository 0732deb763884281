"""Turns texts into token ids, and shares equal tokenizers among the versions in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from tokenizers import Tokenizer

from inference_svc.model.model_files import InvalidModel

# Of a text longer than this times max_tokens the beginning is tokenised first.
_LETTERS_PER_TOKEN = 16


class Tokens(NamedTuple):
    """One tokenised text."""

    ids: list[int]
    truncated: bool


class TextTokenizer:
    """A fast tokenizer that cuts at `max_tokens`. Any thread may use it."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidModel(f"{path.name} cannot be read: {error}") from error
        # Set here and never again: a change during a call fails with "Already borrowed" under load.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._beginning = _LETTERS_PER_TOKEN * max_tokens

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, in their order.

        Of a long text only the beginning is read, unless that gives too few tokens: a text of
        32,768 characters took 50 ms, while the other callers waited.
        """
        encodings = self._tokenizer.encode_batch_fast([text[: self._beginning] for text in texts])
        # Where the beginning ends, tokens may differ from those of the whole text. They do not
        # matter when they come a whole length of tokens after the last one that is used.
        whole = [
            index
            for index, text in enumerate(texts)
            if len(text) > self._beginning and len(encodings[index].overflowing) < 2
        ]
        if whole:
            again = self._tokenizer.encode_batch_fast([texts[index] for index in whole])
            for index, encoding in zip(whole, again, strict=True):
                encodings[index] = encoding
        return [Tokens(encoding.ids, bool(encoding.overflowing)) for encoding in encodings]


class Tokenizers:
    """Loads tokenizers, each file's content only once while a model uses it.

    Most versions of a model have equal tokenizers. The library loads a file with the interpreter's
    lock held: on a thread of low priority that stopped every request for 0.1 s and more.
    """

    def __init__(self) -> None:
        self._in_memory: WeakValueDictionary[tuple[bytes, int], TextTokenizer] = (
            WeakValueDictionary()
        )

    def load(self, path: Path, max_tokens: int) -> TextTokenizer:
        """Return the tokenizer of a file. Raises InvalidModel."""
        key = hashlib.sha256(path.read_bytes()).digest(), max_tokens
        tokenizer = self._in_memory.get(key)
        if tokenizer is None:
            tokenizer = self._in_memory[key] = TextTokenizer(path, max_tokens)
        return tokenizer
