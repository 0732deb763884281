"""Pages of the list of served models, which may change between two pages."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_svc.doors.model_pages import page_of
from inference_svc.serving.slots import CHALLENGER, CHAMPION, SlotKey
from service_kit.errors import InvalidArgument
from service_kit.page_tokens import encode_page_token


@dataclass(frozen=True)
class Served:
    """Has the only field of a served version that matters here."""

    slot: SlotKey


def listed(*slots: SlotKey) -> list[Served]:
    return [Served(slot) for slot in sorted(slots, key=lambda s: (s.model, s.role == CHALLENGER))]


def models(count: int) -> list[Served]:
    return listed(*(SlotKey(f"m{n}") for n in range(count)))


def pages(served: list[Served], page_size: int = 0) -> list[list[Served]]:
    found, token = [], ""
    while True:
        page, token = page_of(served, page_size, token)  # type: ignore[arg-type]
        found.append(page)
        if not token:
            return found  # type: ignore[return-value]


def test_a_page_has_100_models_unless_the_caller_asks_for_another_number() -> None:
    served = models(250)
    assert [len(page) for page in pages(served)] == [100, 100, 50]
    assert [len(page) for page in pages(served, 250)] == [250]
    assert [len(page) for page in pages(served, 249)] == [249, 1]
    assert [len(page) for page in pages(models(2_500), 1_000)] == [1_000, 1_000, 500]
    assert pages([]) == [[]]


@given(
    st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from((CHAMPION, CHALLENGER)))),
    st.integers(1, 5),
)
def test_the_pages_together_are_the_list(slots: set[tuple[str, str]], page_size: int) -> None:
    served = listed(*(SlotKey(*slot) for slot in slots))
    assert [version for page in pages(served, page_size) for version in page] == served


def test_models_that_come_or_go_between_pages_hide_no_other_and_show_none_twice() -> None:
    before = listed(*(SlotKey(name) for name in ("b", "d", "f", "h")))
    page, token = page_of(before, 2, "")  # type: ignore[arg-type]
    assert [version.slot.model for version in page] == ["b", "d"]
    after = listed(*(SlotKey(name) for name in ("a", "b", "c", "e", "f", "h")))
    page, token = page_of(after, 2, token)  # type: ignore[arg-type]
    assert [version.slot.model for version in page] == ["e", "f"]
    page, token = page_of(after, 2, token)  # type: ignore[arg-type]
    assert ([version.slot.model for version in page], token) == (["h"], "")


def test_the_challenger_of_a_model_may_begin_a_page() -> None:
    served = listed(SlotKey("a"), SlotKey("a", CHALLENGER), SlotKey("b"))
    assert [len(page) for page in pages(served, 1)] == [1, 1, 1]


@pytest.mark.parametrize("page_size", [-1, 1_001, 2**31 - 1])
def test_a_page_size_out_of_range_is_refused(page_size: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^page_size: "):
        page_of([], page_size, "")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "m1",
        encode_page_token("ListBatches", "m1 champion"),
        encode_page_token("ListModels", "m1"),
        encode_page_token("ListModels", "m1 other"),
        encode_page_token("ListModels", "m1 champion") + "x",
    ],
)
def test_a_token_of_another_list_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^page_token: "):
        page_of(models(3), 1, token)  # type: ignore[arg-type]
