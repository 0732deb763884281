"""The limits of the contract."""

import pytest

from service_kit.errors import InvalidArgument
from service_kit.limits import check_model_name, check_request_id


@pytest.mark.parametrize("name", ["", "Reviews", "1st", "a-b", "a" * 41, "x;drop"])
def test_a_bad_model_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="model"):
        check_model_name(name)


def test_a_missing_request_id_is_made_anew_each_time() -> None:
    assert check_request_id("") != check_request_id("")


def test_a_request_id_is_kept_when_airflow_would_take_it_and_refused_otherwise() -> None:
    assert check_request_id("retrain__reviews__1") == "retrain__reviews__1"
    with pytest.raises(InvalidArgument, match="request_id: 'with space' does not match"):
        check_request_id("with space")
