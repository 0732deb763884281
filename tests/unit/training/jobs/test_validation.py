"""The ranges of parameters, ids and limits in requests."""

from dataclasses import replace

import pytest

from service_kit.errors import InvalidArgument
from training_svc.jobs.job import Params
from training_svc.jobs.request_validation import check_job_id, check_params


def test_zeros_leave_every_choice_to_the_service() -> None:
    assert check_params(Params()) == Params()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 1001),
        ("batch_size", 1025),
        ("learning_rate", -0.1),
        ("learning_rate", 1.5),
        ("learning_rate", float("nan")),
        ("max_length", 7),
        ("max_length", 8193),
        ("seed", -1),
        ("max_examples", -5),
        ("base_model", "x" * 100_000),
        ("base_model", "a\nb"),
        ("base_model", "/etc"),
    ],
)
def test_parameter_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_params(replace(Params(), **{field: value}))  # type: ignore[arg-type]
    assert caught.value.field == f"params.{field}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 1000), ("batch_size", 1024), ("learning_rate", 1.0), ("max_length", 8)],
)
def test_bounds_belong_to_the_range(field: str, value: object) -> None:
    check_params(replace(Params(), **{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("any_id", ["", "a b", "x" * 129, "nul\0"])
def test_malformed_id_is_refused(any_id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_job_id(any_id)
    assert caught.value.field == "id"
