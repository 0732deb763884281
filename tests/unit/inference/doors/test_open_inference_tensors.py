"""Tensors of the Open Inference Protocol, in bytes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_svc.doors.oip.tensors import (
    OUTPUTS,
    check_input,
    check_outputs,
    join_elements,
    split_elements,
    texts_of,
)
from service_kit.errors import InvalidArgument


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_elements_come_back_from_their_bytes(elements: list[bytes]) -> None:
    assert split_elements(join_elements(elements), len(elements)) == elements


@given(st.binary(max_size=200), st.integers(0, 20))
def test_any_bytes_are_elements_or_refused(raw: bytes, count: int) -> None:
    with suppress(InvalidArgument):
        assert join_elements(split_elements(raw, count)) == raw


@pytest.mark.parametrize(
    ("raw", "count", "problem"),
    [
        (b"", 1, "text: has 0 whole elements; its shape says 1"),
        (b"\x01\0\0", 1, "text: has 0 whole elements"),
        (b"\xff\xff\xff\xffabc", 1, "text: has 0 whole elements"),
        (b"\x01\0\0\0a\x01\0\0\0b", 1, "text: has 5 bytes more than the 1 elements"),
    ],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(raw: bytes, count: int, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        split_elements(raw, count)
    assert str(refused.value).startswith(problem)


def test_text_that_is_not_utf8_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"text\[1\]: is not UTF-8"):
        texts_of([b"a", b"\xff"], 2)


def test_outputs_are_those_asked_for_in_their_order_or_all() -> None:
    assert check_outputs([]) == OUTPUTS
    assert check_outputs(["scores", "label"]) == ("scores", "label")


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_a_shape_says_how_many_texts_there_are(shape: list[int]) -> None:
    assert check_input(["text"], "BYTES", shape) == 3
