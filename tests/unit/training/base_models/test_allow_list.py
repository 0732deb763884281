"""Which base models a caller may name."""

from pathlib import Path

import pytest

from service_kit.errors import InvalidArgument
from training_svc.base_models.allow_list import BaseModel, BaseModels

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LISTED = f"ours=/models/ours, org/small@{COMMIT}, big=org/large@{COMMIT},"


def test_folders_and_hub_models_have_names() -> None:
    models = BaseModels.parse(LISTED, "")
    assert set(models.by_name) == {"minilm", "ours", "org/small", "big"}
    assert models.find("ours") == BaseModel("ours", folder="/models/ours")
    assert models.find("big") == BaseModel("big", hub_id="org/large", revision=COMMIT)
    assert models.find("big").record == f"org/large@{COMMIT}"
    assert models.find("ours").record == "ours"
    assert models.find("").record == models.find("minilm").record == ""


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("", BaseModel("minilm")),
        ("ours", BaseModel("ours", folder="/models/ours")),
        ("/models/other", BaseModel("other", folder="/models/other")),
        (f"org/other@{COMMIT}", BaseModel("org/other", hub_id="org/other", revision=COMMIT)),
    ],
)
def test_the_default_is_a_name_or_an_entry(default: str, expected: BaseModel) -> None:
    models = BaseModels.parse(LISTED, default)
    assert models.find("") == models.find(expected.name) == expected


def test_every_unlisted_name_is_refused_in_the_same_words(tmp_path: Path) -> None:
    models = BaseModels.parse(LISTED, "")
    words = set()
    for name in (
        *("/models/ours", "/models", "/etc", "/no/such", "..", "./", "~", str(tmp_path)),
        *("org/large", f"org/small@{COMMIT}", "org/private", "OURS", "ours ", "x" * 10_000),
        *("../ours", "file:///etc/passwd", "a\0b", "\x1b[2J"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            models.find(name)
        assert caught.value.field == "params.base_model"
        words.add(str(caught.value))
    assert len(words) == 1
    assert "there are big, minilm, org/small, ours. The operator" in words.pop()


def test_a_long_list_is_shown_in_part() -> None:
    models = BaseModels.parse(",".join(f"m{n}=/m/{n}" for n in range(50)), "")
    with pytest.raises(InvalidArgument, match="and 31 more"):
        models.find("other")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("org/small", "40 hexadecimal digits"),
        ("org/small@main", "40 hexadecimal digits"),
        ("./ours", "from the root"),
        ("ours=models/ours", "from the root"),
        ("/models/ours", "has no name; write NAME=/models/ours"),
        ("a b=/models/ours", "letters, digits"),
        ("a=/x,a=/y", "given to two"),
        ("minilm=/x", "given to two"),
        (",".join(f"m{n}=/m/{n}" for n in range(101)), "at most 100"),
    ],
)
def test_an_unclear_list_is_refused(listed: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BaseModels.parse(listed, "")
