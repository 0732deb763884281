"""Whether another attempt at a training that failed can succeed, and what its reason says."""

import errno
import json
from pathlib import Path

import pytest

from service_kit.errors import Aborted, InvalidArgument, MeshError, NotFound, Unavailable
from training_svc.base_models.hub_download import HubUnavailable
from training_svc.child.failures import MAX_CHARACTERS, explain
from training_svc.child.row_checks import UnusableRows
from training_svc.learning.base_model_error import BaseModelUnusable


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


LASTING = [
    UnusableRows("a classifier needs training rows of at least two labels"),
    ValueError("the training diverged at step 3"),
    BaseModelUnusable("the hub has no model nobody/nothing"),
    InvalidArgument("params.base_model", "is no model"),
    NotFound("no such version"),
]
PASSING = [
    Unavailable("MLflow is away"),
    Aborted("the Champion changed"),
    MeshError("something else"),
    HubUnavailable("the hub did not deliver base model ours: ConnectError"),
    MemoryError(),
    RuntimeError("CUDA out of memory"),
    KeyError("a bug"),
    json.JSONDecodeError("half a file", "{", 1),
]


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_rows_and_parameters_fail_in_the_same_way_again(error: Exception, tmp_path: Path) -> None:
    failure = explain(error, tmp_path)
    assert failure.lasting
    assert failure.reason == str(error)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_is_away_or_short_may_be_there_again(error: Exception, tmp_path: Path) -> None:
    failure = explain(error, tmp_path)
    assert not failure.lasting
    assert failure.reason


def test_full_disk_and_full_memory_are_called_by_their_names(tmp_path: Path) -> None:
    full = caused_by(RuntimeError("cannot write"), OSError(errno.ENOSPC, "No space left"))
    assert explain(full, tmp_path).reason == f"the disk of {tmp_path} is full: cannot write"
    assert explain(MemoryError(), tmp_path).reason == "memory ran out: MemoryError"


def test_reason_has_a_bound(tmp_path: Path) -> None:
    assert len(explain(ValueError("x" * 100_000), tmp_path).reason) == MAX_CHARACTERS
