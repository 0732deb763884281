"""The Trainer with batches of similar length, and the callback that reports and checkpoints."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training_svc.learning.checkpoints import CheckpointStore

REPORT_EVERY_S = 1.0  # seconds between two progress reports

# Batches whose rows are sorted by length together: more leave less padding, fewer mix better.
BATCHES_A_POOL = 50


@dataclass(frozen=True)
class Progress:
    """The progress of a training."""

    step: int  # optimiser steps done, including those before a resume
    total_steps: int
    epoch: float  # passes over the data that are done
    loss: float  # mean training loss since the previous report
    examples_per_second: float  # since this run began
    eta_seconds: float


def batches_by_length(lengths: Sequence[int], batch_size: int, seed: str) -> list[list[int]]:
    """Batches of row indices: each row once, rows of similar length together, in random order.

    Only the last batch may be short. The same seed gives the same batches.
    """
    rng = random.Random(seed)  # noqa: S311  shuffling is no secret
    indices = list(range(len(lengths)))
    rng.shuffle(indices)
    pool = batch_size * BATCHES_A_POOL
    pooled = [
        index
        for start in range(0, len(indices), pool)
        for index in sorted(indices[start : start + pool], key=lambda i: lengths[i])
    ]
    batches = [pooled[i : i + batch_size] for i in range(0, len(pooled), batch_size)]
    rest = [batches.pop()] if len(batches[-1]) < batch_size else []
    rng.shuffle(batches)
    return batches + rest


class WordHider:
    """Replaces random words by the mask token, which regularises instead of dropout."""

    def __init__(self, mask_id: int | None, special_ids: Sequence[int], share: float) -> None:
        self._mask_id = mask_id
        self._special_ids = torch.tensor(list(special_ids), dtype=torch.long)
        self._share = share

    def hide(self, input_ids: torch.Tensor, seed: int) -> torch.Tensor:
        """A copy of `input_ids` (rows x tokens) with that share hidden, never a special token.

        The same seed hides the same places. A tokenizer without a mask token hides nothing.
        """
        if self._mask_id is None:
            return input_ids
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.rand(input_ids.shape, generator=generator) < self._share
        special = torch.isin(input_ids, self._special_ids.to(input_ids.device))
        return input_ids.masked_fill(chosen.to(input_ids.device) & ~special, self._mask_id)


class TextTrainer(Trainer):
    """A Trainer with batches of similar length and randomly hidden words.

    Both depend only on the seed and the step, so that a resumed training continues exactly as the
    interrupted one would have. The Trainer's own group_by_length leaves the batches in order of
    length, and uses torch's global generator, whose state is lost in a resumed epoch.
    """

    def __init__(self, *, hider: WordHider, **options: Any) -> None:
        super().__init__(**options)
        self._hider = hider

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Hide words in the batch, then train on it."""
        seed = self.args.seed * 1_000_003 + self.state.global_step
        inputs["input_ids"] = self._hider.hide(inputs["input_ids"], seed)
        return super().training_step(model, inputs, num_items_in_batch)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return _LengthSampler(
            rows.lengths(),
            self.args.train_batch_size,
            lambda steps_an_epoch: f"{self.args.seed}/{self.state.global_step // steps_an_epoch}",
        )


class _LengthSampler(Sampler[int]):
    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed_at: Callable[[int], str]
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed_at = seed_at

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        steps_an_epoch = -(-len(self) // self._batch_size)
        seed = self._seed_at(steps_an_epoch)
        for batch in batches_by_length(self._lengths, self._batch_size, seed):
            yield from batch


class Reporter(TrainerCallback):
    """Reports progress and publishes checkpoints, both by the clock."""

    def __init__(
        self,
        store: CheckpointStore,
        on_progress: Callable[[Progress], None],
        *,
        rows: int,
        checkpoint_every_s: float,
    ) -> None:
        self.loss = float("nan")
        self._store = store
        self._on_progress = on_progress
        self._rows = rows
        self._checkpoint_every_s = checkpoint_every_s
        self._first_step = 0
        self._started = self._reported = self._saved = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clocks."""
        self._first_step = state.global_step
        self._started = self._reported = self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the Trainer to log or save when it is due; the last step is always reported."""
        now = time.monotonic()
        last = state.global_step >= state.max_steps
        if last or now - self._reported >= REPORT_EVERY_S:
            control.should_log = True
            self._reported = now
        if not last and now - self._saved >= self._checkpoint_every_s:
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Turn the Trainer's log entry into a Progress."""
        if not logs or "loss" not in logs:  # the summary after the last step has no loss
            return
        self.loss = logs["loss"]
        elapsed = max(time.monotonic() - self._started, 1e-9)
        steps_per_second = (state.global_step - self._first_step) / elapsed
        rows_a_step = self._rows * state.num_train_epochs / state.max_steps
        state.log_history.clear()  # or every checkpoint would hold all log entries
        self._on_progress(
            Progress(
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=float(state.epoch or 0.0),
                loss=self.loss,
                examples_per_second=steps_per_second * rows_a_step,
                eta_seconds=(state.max_steps - state.global_step) / steps_per_second,
            )
        )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Publish the checkpoint that the Trainer has just written."""
        self._store.publish(state.global_step)
        self._saved = time.monotonic()
