"""Checks of examples, and the spool of an import."""

from pathlib import Path

import pytest

from service_kit.errors import InvalidArgument, Unavailable
from trigger_svc.dataset.examples import Example, Spool, check_example_count

LIMIT = 1_000


@pytest.mark.parametrize(
    ("example", "field"),
    [
        (Example(" \n", "a"), r"examples\[1\].text: is blank"),
        (Example("x" * 32_769, "a"), r"examples\[1\].text: has 32,769 characters"),
        (Example("x\0", "a"), r"examples\[1\].text: has a NUL"),
        (Example("x", ""), r"examples\[1\].label: is blank"),
        (Example("x", "a" * 129), r"examples\[1\].label: has 129"),
        (Example("x", "a\0"), r"examples\[1\].label: has a NUL"),
        (Example("x", "a", "dev"), r"examples\[1\].split: 'dev' is neither"),
    ],
)
def test_a_bad_example_is_named_by_its_index_and_rule(example: Example, field: str) -> None:
    spool = Spool(None, LIMIT)
    with pytest.raises(InvalidArgument, match=field):
        spool.add([Example("good", "a"), example])
    spool.close()


def test_a_spool_escapes_the_characters_that_copy_interprets() -> None:
    spool = Spool(None, LIMIT)
    spool.add([Example("tab\t line\n back\\slash \\N", "é\r", "test")])
    expected = "0\ttab\\t line\\n back\\\\slash \\\\N\té\\r\ttest\n"
    assert spool.rewound().read().decode() == expected
    spool.close()


def test_a_spool_is_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    with pytest.raises(InvalidArgument, match="at most 1,000 bytes"):
        spool.add([Example("x" * LIMIT, "a")])
    spool.close()


def test_a_full_disk_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(None, LIMIT)
    spool.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(spool, "_file", full)
        with pytest.raises(Unavailable, match="on its disk: No space left on device"):
            spool.add([Example("x", "a")])


def test_a_message_has_at_most_ten_thousand_examples() -> None:
    check_example_count(10_000)
    with pytest.raises(InvalidArgument, match="10,001"):
        check_example_count(10_001)
