"""Says in plain words why a training failed, and whether another attempt would fail as well."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service_kit.errors import FailedPrecondition, InvalidArgument, MeshError, NotFound
from training_svc.child.row_checks import UnusableRows
from training_svc.learning.base_model_error import BaseModelUnusable
from training_svc.learning.whole_files import is_full

MAX_CHARACTERS = 2_000  # of a reason

# Names, because importing the libraries that raise these takes seconds.
_OUT_OF_MEMORY_NAMES = frozenset({"MemoryError", "OutOfMemoryError", "AcceleratorError"})
_LASTING_ERRORS = (InvalidArgument, NotFound, FailedPrecondition)


@dataclass(frozen=True)
class Failure:
    """Why a training failed."""

    reason: str
    lasting: bool  # with the same rows and parameters, another attempt would fail in the same way


def explain(error: BaseException, folder: Path) -> Failure:
    """Return why the training in `folder` failed."""
    words = str(error) or type(error).__name__
    if _is_disk_full(error) or is_full(folder):
        # Libraries only say that a write failed.
        return _failure(f"the disk of {folder} is full: {words}", lasting=False)
    names = {type(cause).__name__ for cause in _chain(error)}
    if names & _OUT_OF_MEMORY_NAMES or "out of memory" in words.lower():
        return _failure(f"memory ran out: {words}", lasting=False)
    if isinstance(error, BaseModelUnusable):
        return _failure(words, lasting=True)
    if isinstance(error, MeshError):
        return _failure(words, lasting=isinstance(error, _LASTING_ERRORS))
    if isinstance(error, OSError):
        return _failure(words, lasting=False)
    # Our own code raises ValueError itself or UnusableRows; its other subclasses are libraries'.
    if type(error) in (ValueError, UnusableRows):
        return _failure(words, lasting=True)
    return _failure(f"{type(error).__name__}: {words}", lasting=False)


def _failure(reason: str, *, lasting: bool) -> Failure:
    return Failure(reason[:MAX_CHARACTERS], lasting)


def _is_disk_full(error: BaseException) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(cause, OSError) and cause.errno in full for cause in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
