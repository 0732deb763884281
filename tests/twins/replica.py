"""For the tests of a replica: a tiny real model, a registry in memory, and an engine to steer."""

import asyncio
import json
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from inference_svc.batching.batcher import Batcher
from inference_svc.batching.job import Lane
from inference_svc.engines.base import FloatArray, IntArray, MemoryNeed
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import GOLDEN_FILE, TOKENIZER_FILE, WEIGHTS_FOLDER, ModelSpec
from inference_svc.model.text_tokenizer import TextTokenizer
from inference_svc.settings import InferenceSettings
from service_kit.errors import NotFound, Unavailable
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import TAG_BATCH_ID, ModelVersion, RegisteredModel
from tests.real_parts.postgres import free_port

LABELS = ("bad", "good")
WORDS = ("bad", "awful", "good", "great", "film", "the", "was", "a", "word", "very")
MAX_TOKENS = 64
GOLDEN_TEXTS = ("a bad film", "the film was awful", "a great film", "the film was good")


@dataclass
class Clock:
    """A clock that the test moves, seconds."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def write_tokenizer(path: Path) -> None:
    """Write a tokenizer.json that knows WORDS, with [CLS] and [SEP]."""
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def write_model(
    folder: Path, seed: int = 0, labels: Sequence[str] = LABELS, with_graph: bool = False
) -> Path:
    """Write a tiny BERT classifier in the layout that training logs, golden set included."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from training_svc.learning.openvino_graph import try_export

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS,
    )
    config.num_labels = len(labels)
    model = BertForSequenceClassification(config)
    model.train(mode=False)
    with torch.no_grad():
        model.classifier.weight.mul_(100)  # scores far from each other
    model.save_pretrained(folder / WEIGHTS_FOLDER)
    write_tokenizer(folder / TOKENIZER_FILE)
    tokenizer = TextTokenizer(folder / TOKENIZER_FILE, MAX_TOKENS)
    golden = []
    for text, tokens in zip(GOLDEN_TEXTS, tokenizer.encode(GOLDEN_TEXTS), strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([tokens.ids])).logits.softmax(-1)[0].tolist()
        label = labels[int(np.argmax(scores))]
        golden.append({"text": text, "label": label, "scores": scores})
    graph = try_export(folder / WEIGHTS_FOLDER, folder) if with_graph else None
    write_golden(folder, labels, golden, graph)
    return folder


def write_golden(
    folder: Path,
    labels: Sequence[str],
    golden: Sequence[object],
    graph: dict[str, str] | None = None,
) -> None:
    """Write golden.json."""
    content = {"labels": list(labels), "max_tokens": MAX_TOKENS, "base_model": "tiny"}
    content |= {"graph": graph, "golden": list(golden)}
    (folder / GOLDEN_FILE).write_text(json.dumps(content))


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Check the condition every 10 ms until it holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        for _ in count():
            if await condition():
                return
            await asyncio.sleep(0.01)


async def until_admitted(batcher: Batcher, texts: int, lane: Lane = Lane.INTERACTIVE) -> None:
    """Wait until `texts` texts of a lane wait or run."""

    async def are_admitted() -> bool:
        return batcher.queue.admission.held[lane] == texts

    await until(are_admitted)


class FakeRegistry:
    """A registry in memory whose versions are folders; while `away` is True, every call fails."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, str]] = {}
        self.folders: dict[tuple[str, str], Path] = {}
        self.away = False
        self.downloads: list[tuple[str, str]] = []
        self.lookups = 0

    def add(self, name: str, version: str, folder: Path, *aliases: str) -> None:
        """Register a version and point aliases to it."""
        self.folders[(name, version)] = folder
        self.models.setdefault(name, {}).update(dict.fromkeys(aliases, version))

    def remove(self, name: str) -> None:
        """Delete a model with its versions, so that the next one of its name starts at 1 again."""
        del self.models[name]
        for key in [key for key in self.folders if key[0] == name]:
            del self.folders[key]

    def _check(self) -> None:
        if self.away:
            raise Unavailable("MLflow is away")

    async def find_model(self, name: str) -> RegisteredModel | None:
        self._check()
        self.lookups += 1
        aliases = self.models.get(name)
        return None if aliases is None else RegisteredModel(name, dict(aliases))

    async def list_models(self) -> list[RegisteredModel]:
        self._check()
        return [
            RegisteredModel(name, dict(aliases)) for name, aliases in sorted(self.models.items())
        ]

    async def get_version(self, name: str, version: str) -> ModelVersion:
        self._check()
        folder = self.folders.get((name, version))
        if folder is None:
            raise NotFound(f"version {version} of {name} does not exist")
        tags = {TAG_BATCH_ID: f"retrain__{name}__{version}"}
        return ModelVersion(name, version, f"run-{version}", str(folder), tags)

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        self._check()
        self.downloads.append((name, version))
        folder = self.folders[(name, version)]
        files = [file for file in folder.rglob("*") if file.suffix in (".bin", ".safetensors")]
        large = [str(file.relative_to(folder)) for file in files]
        chosen = large if choose is None else choose(folder, large)
        left_out = {Path(path).name for path in large if path not in chosen}
        shutil.copytree(folder, target, ignore=lambda _, names: left_out & set(names))

    async def close(self) -> None:
        """Nothing to close."""


class SteeredClassifier:
    """Gives every text "good" with 0.75.

    While `go` is not set, batches wait. A batch with the token id `fails_on` or of more than
    `most_texts` texts fails, and with `lost` every batch does.
    """

    engine = "steered"
    score_tolerance = 1e-6

    def __init__(self, fails_on: int | None = None) -> None:
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Semaphore(0)
        self.fails_on = fails_on
        self.most_texts = 10_000
        self.lost: Exception | None = None
        self.batches: list[IntArray] = []

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        self.batches.append(ids)
        self.started.release()
        assert self.go.wait(10)
        if self.lost is not None:
            raise self.lost
        if len(ids) > self.most_texts:
            raise RuntimeError("CUDA out of memory")
        if self.fails_on is not None and (ids == self.fails_on).any():
            raise RuntimeError("the engine broke")
        return np.tile(np.array([[0.25, 0.75]], np.float32), (len(ids), 1))


def steered_model(folder: Path, classifier: SteeredClassifier) -> LoadedModel:
    """A model around a classifier that a test steers."""
    path = folder / TOKENIZER_FILE
    write_tokenizer(path)
    spec = ModelSpec(LABELS, MAX_TOKENS, golden=())
    return LoadedModel(spec, 0, TextTokenizer(path, MAX_TOKENS), classifier)


class SteeredEngine:
    """Loads a SteeredClassifier from any folder."""

    device = "nothing"
    batch_tokens = 1024
    reads_graphs = True

    def __init__(self) -> None:
        self.loaded: list[SteeredClassifier] = []
        self.fail_with: Exception | None = None
        self.lost: Exception | None = None
        self.memory = MemoryNeed(0, 0)
        self.released = 0
        self.released_idle = 0

    def enter_thread(self, computes: bool) -> None:
        """Nothing to set."""

    def load(self, weights: Path, graph: Path | None = None) -> SteeredClassifier:
        if self.fail_with is not None:
            raise self.fail_with
        self.loaded.append(SteeredClassifier())
        return self.loaded[-1]

    def check(self) -> None:
        if self.lost is not None:
            raise self.lost

    def memory_needed(self, weights: Path, graph: Path | None = None) -> MemoryNeed:
        return self.memory

    def release_memory(self) -> None:
        self.released += 1

    def release_idle(self) -> None:
        self.released_idle += 1


def write_steered_version(folder: Path, golden: Sequence[object] = ()) -> Path:
    """Write the files of a version for SteeredEngine."""
    write_tokenizer(folder / TOKENIZER_FILE)
    (folder / WEIGHTS_FOLDER).mkdir()
    (folder / WEIGHTS_FOLDER / "config.json").write_text('{"pad_token_id": 0}')
    write_golden(folder, LABELS, golden)
    return folder


def replica_settings(folder: Path) -> InferenceSettings:
    """Settings of the one replica behind an Envoy, with its state in `folder`."""
    return InferenceSettings(
        replica_id="replica-1",
        state_dir=folder / "state",
        http_port=free_port(),
        unary_port=free_port(),
        drain_seconds=0,
        grace_seconds=1,
    )
