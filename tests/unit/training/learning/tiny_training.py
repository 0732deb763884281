"""Rows, labels and helpers for fine-tuning a tiny BERT with random weights."""

from collections.abc import Callable

from training_svc.learning.finetune import FineTuneResult
from training_svc.learning.trainer import Progress

WORDS = ["good", "bad", "fine", "film", "plot", "very", "a", "the", "is", "was"]
TEXTS = [
    "good film",
    "very good plot",
    "the film is bad",
    "bad",
    "a fine plot",
    "fine",
    "fine film",
]
LABELS = ["pos", "pos", "neg", "neg", "mid", "mid", "mid"]
NAMES = ["neg", "mid", "pos"]

Run = Callable[..., FineTuneResult]


class Interrupted(Exception):
    """Stands for the kill of a child process."""


def stop_at(step: int) -> Callable[[Progress], None]:
    """An on_progress that interrupts the training at that step."""

    def on_progress(progress: Progress) -> None:
        if progress.step >= step:
            raise Interrupted

    return on_progress
