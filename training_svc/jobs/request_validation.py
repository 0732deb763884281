"""Checks the parameters, ids and limits in the callers' requests."""

import math

from service_kit.errors import AlreadyExists, InvalidArgument, NotFound
from service_kit.limits import check_request_id
from training_svc.base_models.allow_list import PACKAGED_ONLY, BaseModels
from training_svc.jobs.job import Params

MAX_EPOCHS = 1000
MAX_BATCH_SIZE = 1024  # rows a step
MAX_TRAINED_ROWS = 10_000_000
MIN_LENGTH, MAX_LENGTH = 8, 8192  # tokens


def check_params(params: Params, base_models: BaseModels = PACKAGED_ONLY) -> Params:
    """Return `params`, or raise InvalidArgument with the field and its rule."""
    _check_range("params.epochs", params.epochs, 1, MAX_EPOCHS)
    _check_range("params.batch_size", params.batch_size, 1, MAX_BATCH_SIZE)
    _check_range("params.max_length", params.max_length, MIN_LENGTH, MAX_LENGTH)
    rate = params.learning_rate
    if not (math.isfinite(rate) and 0 <= rate <= 1):
        raise InvalidArgument(
            "params.learning_rate",
            f"is {rate:g}; it must be above 0 and at most 1, or 0 for the service's choice",
        )
    _check_range("params.max_examples", params.max_examples, 1, MAX_TRAINED_ROWS)
    if params.seed < 0:
        raise InvalidArgument("params.seed", f"is {params.seed}; it must be 0 or more")
    base_models.find(params.base_model)
    return params


def no_training(any_id: str) -> NotFound:
    """Return the error for an id that no training has, or none of those that the caller may see."""
    return NotFound(f"no training has the id or request id {any_id!r}")


def used_elsewhere(request_id: str) -> AlreadyExists:
    """Return the error for a request id of another model's training.

    Which model that is stays untold: the caller may have no business with it.
    """
    return AlreadyExists(
        f"request_id: {request_id!r} belongs to a training of another model; choose another id"
    )


def check_job_id(any_id: str) -> str:
    """Return the id of a job or of a request, or raise InvalidArgument."""
    if not any_id:
        raise InvalidArgument("id", "is empty; give the id or the request id of a training")
    try:
        return check_request_id(any_id)
    except InvalidArgument as error:
        raise InvalidArgument("id", error.problem) from error


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if value != 0 and not low <= value <= high:
        raise InvalidArgument(
            field, f"is {value}; it must be {low:,} to {high:,}, or 0 for the service's choice"
        )
