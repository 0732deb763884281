"""Exports a finished model as an OpenVINO graph, so that a replica on a CPU needs no torch."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from service_kit.telemetry import refuse_openvino_telemetry
from training_svc.models import load_trained_model

refuse_openvino_telemetry()
import openvino  # noqa: E402

log = logging.getLogger(__name__)

GRAPH_FORMAT = "openvino-ir"
GRAPH_FOLDER = "openvino"
GRAPH_FILE = "model.xml"  # the weights lie beside it, in model.bin

# The graph must give other batches than the traced one the same probabilities as the model.
TOLERANCE = 1e-3
_TRACED_SHAPE = (2, 8)  # texts, tokens
_CHECKED_SHAPES = ((1, 5), (3, 16), (2, 8))
_LEAST_TOKENS = 2  # of a text in a checked batch, before the padding


class _Classifier(torch.nn.Module):
    """Token ids and mask [texts, tokens] in, probabilities [texts, labels] out.

    Token types stay out: the model fills in zeros, which become part of the graph.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask)
        scores: torch.Tensor = answer.logits.float().softmax(-1)
        return scores


def try_export(model_dir: Path, folder: Path) -> dict[str, str] | None:
    """Write the graph into `folder`/openvino unless it is there; say what it is, for golden.json.

    None when the model cannot be exported: a replica then runs it with torch, so that is worth a
    warning and not a failed job.
    """
    target = folder / GRAPH_FOLDER
    if not (target / GRAPH_FILE).exists():
        partial = folder / (GRAPH_FOLDER + ".partial")
        try:
            _export(model_dir, partial)
        except Exception as error:  # of every kind, by tracer, converter and model
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
    """Export and check. Raises whatever goes wrong, ValueError when the graph computes wrongly."""
    # The plain attention, whose pattern OpenVINO replaces by a kernel of its own.
    model = load_trained_model(model_dir, attention="eager")
    classifier = _Classifier(model).eval()
    ids, mask = _batch(model, _TRACED_SHAPE)
    with _silent(), torch.inference_mode():
        graph = openvino.convert_model(
            classifier, example_input={"input_ids": ids, "attention_mask": mask}
        )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # In 16 bits the weights would be rounded twice where bf16 computes.
        openvino.save_model(graph, folder / GRAPH_FILE, compress_to_fp16=False)
        _check(classifier, folder / GRAPH_FILE)


@contextmanager
def _silent() -> Iterator[None]:
    """The tracer warns of shapes that are constant here, transformers of a loss that is none."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)


def _check(classifier: _Classifier, graph: Path) -> None:
    exact = {"INFERENCE_PRECISION_HINT": openvino.Type.f32}
    compiled = openvino.Core().compile_model(graph, "CPU", exact)
    for shape in _CHECKED_SHAPES:
        ids, mask = _batch(classifier.model, shape)
        expected = classifier(ids, mask)
        scores = torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0])
        off = float((scores - expected).abs().max())
        if not off <= TOLERANCE:
            raise ValueError(f"for {shape[0]} x {shape[1]} tokens the graph is off by {off:.4f}")


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
