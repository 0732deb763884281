"""Tokenizers in memory."""

import gc
import weakref
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from inference_svc.model.text_tokenizer import TextTokenizer, Tokenizers, Tokens
from tests.twins.replica import MAX_TOKENS, write_tokenizer


def test_versions_with_equal_tokenizers_share_one(tmp_path: Path) -> None:
    tokenizers = Tokenizers()
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name / "tokenizer.json")
    first = tokenizers.load(tmp_path / "1" / "tokenizer.json", 16)
    assert tokenizers.load(tmp_path / "2" / "tokenizer.json", 16) is first
    assert tokenizers.load(tmp_path / "2" / "tokenizer.json", 8) is not first
    # A tokenizer that no model uses is not kept.
    reference = weakref.ref(first)
    del first
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "text",
    ["good " * 6_000, " " * 30_000 + "bad", "x" * 30_000, "good" + " " * 2_000 + "bad " * 20, "a"],
)
def test_a_long_text_gives_the_tokens_of_the_whole_though_less_is_read(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path)
    whole = Tokenizer.from_file(str(path))
    whole.enable_truncation(MAX_TOKENS)
    expected = whole.encode(text)
    short = TextTokenizer(path, MAX_TOKENS).encode(["film", text])[1]
    assert short == Tokens(expected.ids, bool(expected.overflowing))
