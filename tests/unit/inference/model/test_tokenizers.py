"""Tokenizers in memory."""

import gc
import weakref
from pathlib import Path

from inference_svc.model.text_tokenizer import Tokenizers
from tests.twins.replica import write_tokenizer


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
