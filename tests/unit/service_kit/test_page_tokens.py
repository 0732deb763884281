"""Page tokens are opaque, tied to their query, and refused when they are not whole."""

import re

import pytest

from service_kit.errors import InvalidArgument
from service_kit.page_tokens import check_page_size, decode_page_token, encode_page_token


@pytest.mark.parametrize("position", ["", "reviews", "retrain__reviews__12", "größe 🙂", "a\0b"])
def test_a_token_gives_back_its_position(position: str) -> None:
    token = encode_page_token("ListBatches reviews", position)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert decode_page_token(token, "ListBatches reviews") == position


def test_an_empty_token_is_the_first_page() -> None:
    assert decode_page_token("", "ListModels") == ""


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "2",
        "reviews",
        "größe",
        "====",
        "AAAA\n",
        " ",
        "a" * 100_000,
        encode_page_token("ListBatches tickets", "reviews"),
        encode_page_token("ListModels", "reviews")[:-1],
        encode_page_token("ListModels", "reviews") + "A",
        encode_page_token("ListModels", "reviews").lower(),
        " " + encode_page_token("ListModels", "reviews"),
    ],
)
def test_a_token_that_this_list_did_not_give_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^page_token: ") as caught:
        decode_page_token(token, "ListModels")
    assert caught.value.field == "page_token"


def test_a_page_has_100_items_unless_it_is_asked_for_1_to_1000() -> None:
    assert [check_page_size(size) for size in (0, 1, 1_000)] == [100, 1, 1_000]


@pytest.mark.parametrize("size", [-1, 1_001, 2**31 - 1, -(2**31)])
def test_a_page_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^page_size: is .*1 to 1,000"):
        check_page_size(size)
