"""Fine-tunes a sequence classifier with transformers.Trainer."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from training_svc.learning.checkpoints import CheckpointStore, fingerprint
from training_svc.learning.devices import Device, choose_device, torch_threads
from training_svc.learning.model_loading import (
    PACKAGED_ENCODER,
    load_base,
    load_earlier,
    position_limit,
    quiet,
)
from training_svc.learning.optimizer import layered_adamw
from training_svc.learning.tokenized_rows import TokenizedRows
from training_svc.learning.trainer import Progress, Reporter, TextTrainer, WordHider

AUTOMATIC = 0  # for epochs and batch_size: choose from the number of rows

EPOCHS = 4  # passes over a data set that is large enough
LEAST_STEPS = 100  # optimiser steps that a small data set should get, through more epochs
MOST_EPOCHS = 20  # passes over a small data set, even if they are fewer than LEAST_STEPS

LARGE_BATCH = 32  # rows a step
SMALL_BATCH = 16  # rows a step below SMALL_DATA, for more steps out of the same rows
SMALL_DATA = 1000  # rows

WARM_UP = 0.1  # share of all steps in which the learning rate rises to its peak
WEIGHT_DECAY = 0.01
LAYER_DECAY = 0.85  # learning rate of a layer relative to the one above
LABEL_SMOOTHING = 0.1  # share of a row's weight that goes to all labels evenly
HIDDEN_WORDS = 0.15  # share of the words that each step hides
PADDING_MULTIPLE = 8  # tokens; with fewer distinct shapes oneDNN compiles fewer kernels
CHECKPOINT_EVERY_S = 30.0  # seconds of work lost at most by a kill


@dataclass(frozen=True)
class FineTuneParams:
    """How to fine-tune; the defaults were chosen on the development rows of SST-2."""

    base_model: str = PACKAGED_ENCODER  # hub id, folder, or "" for the packaged MiniLM
    epochs: int = AUTOMATIC
    batch_size: int = AUTOMATIC  # rows a step
    learning_rate: float = 2e-4  # peak, falls to zero linearly
    max_length: int = 128  # tokens, special ones included
    seed: int = 0


@dataclass(frozen=True)
class FineTuneResult:
    """The result; the model itself is in `model_dir`."""

    model_dir: Path
    device: str  # "cpu (bf16, 2 threads)", "cuda:0 NVIDIA H200"
    epochs: int
    batch_size: int  # rows a step
    total_steps: int
    resumed_from_step: int  # 0: started from the beginning
    max_length: int  # tokens, after every limit
    truncated_rows: int  # training rows that were longer
    loss: float  # mean training loss over the steps since the last report
    seconds: float  # wall time of this run, loading and saving included


def fine_tune(
    texts: Sequence[str],
    labels: Sequence[str],
    label_names: Sequence[str],
    params: FineTuneParams,
    *,
    output_dir: Path,
    checkpoint_dir: Path,
    start_from: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> FineTuneResult:
    """Train on one label per text; `label_names` fixes the order of the logits.

    The finished model and tokenizer replace `output_dir` at the very end. `checkpoint_dir` belongs
    to this training alone; a call with the same arguments resumes from the checkpoint there.
    `start_from` is the folder of an earlier model of ours, used instead of `params.base_model`.
    An exception out of `on_progress` ends the training and reaches the caller; the last
    checkpoint stays.

    Raises ValueError if the rows or labels cannot be trained on, BaseModelNotFound or OSError if
    the model to start from cannot be loaded.
    """
    started = time.monotonic()
    check_rows(texts, labels, label_names)
    device = choose_device()
    batch_size = params.batch_size or automatic_batch_size(len(texts))
    epochs = params.epochs or automatic_epochs(len(texts), batch_size)
    total_steps = epochs * math.ceil(len(texts) / batch_size)

    settings = (list(label_names), asdict(params), str(start_from or ""))
    job = fingerprint(*settings, rows=zip(texts, labels, strict=True))
    store = CheckpointStore(checkpoint_dir, job)
    resume_from = store.prepare()

    set_seed(params.seed)  # the new head's weights are random
    # In bf16 on a CPU the backward pass took 150 ms a step with eager attention, 345 with SDPA.
    attention = "eager" if device.kind == "cpu" else "sdpa"
    if start_from is None:
        model, tokenizer = load_base(params.base_model, label_names, attention)
        limit = min(tokenizer.model_max_length, position_limit(model.config))
    else:
        model, tokenizer = load_earlier(start_from, label_names, attention)
        # The tokenizer's own limit is the max_length of the earlier training.
        limit = position_limit(model.config)
    max_length = min(params.max_length, limit)
    numbers = {name: number for number, name in enumerate(label_names)}
    rows = TokenizedRows(tokenizer, texts, [numbers[label] for label in labels], max_length)

    reporter = Reporter(store, on_progress, rows=len(rows), checkpoint_every_s=checkpoint_every_s)
    with quiet(), torch_threads(device.threads):
        trainer = TextTrainer(
            model=model,
            args=_arguments(store.staging, params, device, epochs, batch_size),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=PADDING_MULTIPLE),
            callbacks=[reporter],
            optimizers=(
                layered_adamw(model, params.learning_rate, LAYER_DECAY, WEIGHT_DECAY),
                None,  # the Trainer's own schedule
            ),
            hider=WordHider(tokenizer.mask_token_id, tokenizer.all_special_ids, HIDDEN_WORDS),
        )
        trainer.remove_callback(PrinterCallback)  # it would print every log line to stdout
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    store.close()
    tokenizer.model_max_length = max_length  # so that replicas truncate as the training did
    _save(model, tokenizer, output_dir)
    return FineTuneResult(
        model_dir=output_dir,
        device=device.describe(),
        epochs=epochs,
        batch_size=batch_size,
        total_steps=total_steps,
        resumed_from_step=int(resume_from.name.rpartition("-")[2]) if resume_from else 0,
        max_length=max_length,
        truncated_rows=rows.truncated,
        loss=reporter.loss,
        seconds=time.monotonic() - started,
    )


def check_rows(texts: Sequence[str], labels: Sequence[str], label_names: Sequence[str]) -> None:
    """Raise ValueError with the reason if nothing can be learned from these rows."""
    if len(texts) != len(labels):
        raise ValueError(f"need one label per text, got {len(texts)} texts, {len(labels)} labels")
    if len(set(label_names)) != len(label_names):
        raise ValueError("label_names must not repeat a label")
    if unknown := sorted(set(labels) - set(label_names)):
        raise ValueError(f"labels that are not in label_names: {', '.join(unknown[:5])}")
    if len(set(labels)) < 2:
        raise ValueError("need rows of at least two different labels to train a classifier")


def automatic_batch_size(rows: int) -> int:
    """Rows a step for a data set of `rows` training rows."""
    return SMALL_BATCH if rows < SMALL_DATA else LARGE_BATCH


def automatic_epochs(rows: int, batch_size: int) -> int:
    """EPOCHS, or for small data the epochs that LEAST_STEPS takes, at most MOST_EPOCHS."""
    return max(EPOCHS, min(MOST_EPOCHS, math.ceil(LEAST_STEPS / math.ceil(rows / batch_size))))


def _arguments(
    folder: Path, params: FineTuneParams, device: Device, epochs: int, batch_size: int
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=params.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=WARM_UP,
        label_smoothing_factor=LABEL_SMOOTHING,
        seed=params.seed,
        use_cpu=device.kind == "cpu",
        bf16=device.precision == "bf16",
        fp16=device.precision == "fp16",
        dataloader_pin_memory=device.kind == "cuda",
        remove_unused_columns=False,
        # The Reporter decides by the clock when to log and when to save.
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        # Otherwise the Trainer would spread a small model over all GPUs with DataParallel.
        arguments._n_gpu = 1
    return arguments


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output_dir: Path) -> None:
    """Write beside `output_dir`, then rename, so that `output_dir` always holds a whole model."""
    partial = output_dir.with_name(output_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet():
        model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(output_dir, ignore_errors=True)
    partial.rename(output_dir)
