"""Exports a finished model as an OpenVINO graph, so that a replica on a CPU needs no torch."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import BertForSequenceClassification, PreTrainedModel
from transformers.utils import logging as hf_logging

from service_kit.telemetry import disable_openvino_telemetry
from training_svc.learning.model_loading import load_trained_model

disable_openvino_telemetry()
import openvino  # noqa: E402

log = logging.getLogger(__name__)

GRAPH_FORMAT = "openvino-ir"
GRAPH_FOLDER = "openvino"
GRAPH_FILE = "model.xml"  # the weights are beside it, in model.bin

# Largest difference of a probability between graph and model, on batches that were not traced.
TOLERANCE = 1e-3
_TRACED_SHAPE = (2, 8)  # texts, tokens
_CHECKED_SHAPES = ((1, 5), (3, 16), (2, 8))
_LEAST_TOKENS = 2  # of a text in a checked batch, without its padding
# Batches of packed texts: tokens of each text, row by row. A short row ends with padding.
_PACKED_LENGTHS = (((5, 3), (4,)), ((9,),), ((2, 7, 3), (6, 6), (1,)))


class _PackingClassifier(torch.nn.Module):
    """Computes probabilities [texts, labels] of several texts in each row, without padding them.

    Inputs: token ids, number of the text that each token belongs to (0: padding) and position of
    the token in that text, each [rows, tokens]; first token of each text, as an index into the
    flattened rows [texts].
    """

    def __init__(self, model: BertForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids: torch.Tensor,
        numbers: torch.Tensor,
        positions: torch.Tensor,
        first: torch.Tensor,
    ) -> torch.Tensor:
        # A token attends only to the tokens of its own text.
        same = numbers[:, None, :, None] == numbers[:, None, None, :]
        mask = torch.where(same, 0.0, torch.finfo(torch.float32).min)
        bert = self.model.bert
        assert bert.pooler is not None
        layers: list[Any] = list(bert.encoder.layer)
        hidden = bert.embeddings(input_ids=ids, position_ids=positions)
        for layer in layers[:-1]:
            hidden = layer(hidden, mask)

        def begins(of_tokens: torch.Tensor) -> torch.Tensor:
            return of_tokens.reshape(-1, of_tokens.shape[-1])[first][:, None, :]

        # The pooler takes the first token of each row, so each text's first token becomes a row.
        # After the last attention nothing is computed for other tokens: that saves a twelfth.
        last = layers[-1]
        attended, _ = last.attention.self(hidden, attention_mask=mask)
        attended = last.attention.output(begins(attended), begins(hidden))
        pooled = bert.pooler(last.feed_forward_chunk(attended))
        scores: torch.Tensor = self.model.classifier(pooled).float().softmax(-1)
        return scores


class _Classifier(torch.nn.Module):
    """Computes probabilities [texts, labels] from token ids and their mask, each [texts, tokens].

    Token types are no input: the model fills in zeros, which become part of the graph.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask)
        scores: torch.Tensor = answer.logits.float().softmax(-1)
        return scores


def try_export(model_dir: Path, folder: Path) -> dict[str, str] | None:
    """Write the graph into `folder`/openvino unless it exists; return its entry for golden.json.

    Returns None, with a warning, when the model cannot be exported: replicas then run it with
    torch, so the job need not fail.
    """
    target = folder / GRAPH_FOLDER
    if not (target / GRAPH_FILE).exists():
        partial = folder / (GRAPH_FOLDER + ".partial")
        try:
            _export(model_dir, partial)
        except Exception as error:  # tracer, converter and model raise errors of every kind
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("no graph for OpenVINO, torch will serve", extra={"why": why})
            shutil.rmtree(partial, ignore_errors=True)
            return None
        partial.rename(target)
    return {
        "format": GRAPH_FORMAT,
        "version": openvino.get_version(),
        "file": f"{GRAPH_FOLDER}/{GRAPH_FILE}",
    }


def _export(model_dir: Path, folder: Path) -> None:
    """Export and check. Raises ValueError when the graph is off, and any error of the libraries."""
    # OpenVINO replaces the pattern of eager attention by a kernel of its own.
    model = load_trained_model(model_dir, attention="eager")
    with _silent(), torch.inference_mode():
        if isinstance(model, BertForSequenceClassification):
            _export_packing(model, folder)
        else:
            _export_padding(model, folder)


def _export_packing(model: BertForSequenceClassification, folder: Path) -> None:
    _save(_PackingClassifier(model).eval(), _packed(model, _PACKED_LENGTHS[0]), folder)
    alone = _Classifier(model).eval()
    compiled = _compiled(folder)
    for lengths in _PACKED_LENGTHS:
        arrays = _packed(model, lengths)
        ids, numbers = arrays["ids"], arrays["numbers"]
        texts = [ids[numbers == number][None] for number in range(1, int(numbers.max()) + 1)]
        expected = torch.cat([alone(text, torch.ones_like(text)) for text in texts])
        scores = compiled([array.numpy() for array in arrays.values()])[0]
        _check(torch.from_numpy(scores), expected, f"texts of {lengths} tokens")


def _export_padding(model: PreTrainedModel, folder: Path) -> None:
    classifier = _Classifier(model).eval()
    ids, mask = _batch(model, _TRACED_SHAPE)
    _save(classifier, {"input_ids": ids, "attention_mask": mask}, folder)
    compiled = _compiled(folder)
    for shape in _CHECKED_SHAPES:
        ids, mask = _batch(model, shape)
        scores = compiled([ids.numpy(), mask.numpy()])[0]
        what = f"{shape[0]} x {shape[1]} tokens"
        _check(torch.from_numpy(scores), classifier(ids, mask), what)


def _save(module: torch.nn.Module, example: dict[str, torch.Tensor], folder: Path) -> None:
    graph = openvino.convert_model(module, example_input=example)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # With weights in fp16, replicas that compute in bf16 would round them twice.
    openvino.save_model(graph, folder / GRAPH_FILE, compress_to_fp16=False)


def _compiled(folder: Path) -> openvino.CompiledModel:
    exact = {"INFERENCE_PRECISION_HINT": openvino.Type.f32}
    return openvino.Core().compile_model(folder / GRAPH_FILE, "CPU", exact)


def _check(scores: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    off = float((scores - expected).abs().max())
    if not off <= TOLERANCE:
        raise ValueError(f"for {what} the graph is off by {off:.4f}")


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the tracer, which warns of constant shapes, and transformers, of a missing loss."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)


def _packed(
    model: PreTrainedModel, lengths: tuple[tuple[int, ...], ...]
) -> dict[str, torch.Tensor]:
    """Random texts of these numbers of tokens, in rows; see _PackingClassifier."""
    generator = torch.Generator().manual_seed(0)
    words = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    shape = len(lengths), max(map(sum, lengths))
    ids = torch.randint(0, words, shape, generator=generator)
    numbers, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    first = []
    for row, texts in enumerate(lengths):
        begin = 0
        for length in texts:
            first.append(row * shape[1] + begin)
            numbers[row, begin : begin + length] = len(first)
            positions[row, begin : begin + length] = torch.arange(length)
            begin += length
    return {
        "ids": ids,
        "numbers": numbers,
        "positions": positions,
        "first": torch.tensor(first),
    }


def _batch(model: PreTrainedModel, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens and a mask in which every text but the first is shorter."""
    generator = torch.Generator().manual_seed(0)
    words = model.get_input_embeddings().num_embeddings
    ids = torch.randint(0, int(words), shape, generator=generator)  # type: ignore[arg-type]
    mask = torch.ones(shape, dtype=torch.long)
    for row in range(1, shape[0]):
        length = max(_LEAST_TOKENS, shape[1] - 2 * row)
        mask[row, length:] = 0
        ids[row, length:] = model.config.pad_token_id or 0
    return ids, mask
