"""A process that holds one engine with one model and computes what it is told; no server."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from inference_svc.engines.choice import create_engine
from inference_svc.model.loaded_model import LoadedModel, TextTokenizer, Tokens
from inference_svc.model.model_files import TOKENIZER_FILE, WEIGHTS_FOLDER, read_pad_id, read_spec

WARM_UP_TEXTS = 200


@dataclass(frozen=True)
class EngineSpec:
    """What computes, and in which number format."""

    kind: str
    precision: str

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.kind} {self.precision}"


@dataclass(frozen=True)
class Batches:
    """Compute all texts in length-sorted batches, whole passes, at least so long."""

    texts: int
    seconds: float
    begin: float
    """Moment of time.monotonic() at which every process starts."""


@dataclass(frozen=True)
class OneByOne:
    """Compute the texts one at a time, in their order, so long."""

    seconds: float


Task = Batches | OneByOne


def load(folder: Path, spec: EngineSpec) -> LoadedModel:
    """Load a version as a replica does, with one thread."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    engine = create_engine(spec.kind, "cpu", spec.precision, threads=1)
    engine.enter_thread(computes=True)
    model = read_spec(folder)
    graph = folder / model.graph if model.graph else None
    return LoadedModel(
        model,
        read_pad_id(folder, model),
        TextTokenizer(folder / TOKENIZER_FILE, model.max_tokens),
        engine.load(folder / WEIGHTS_FOLDER, graph),
    )


def run(connection: Connection, folder: Path, spec: EngineSpec, texts: Sequence[str]) -> None:
    """Load, answer every task with a list of numbers, end when the other side closes."""
    model = load(folder, spec)
    # Tokenised before the clock runs: the limit is the engine's.
    tokens = model.tokenizer.encode(texts)
    warm: set[object] = set()
    connection.send("ready")
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        if isinstance(task, OneByOne):
            connection.send(_one_by_one(model, tokens, task, warm))
        else:
            connection.send([_rate(model, tokens, task, warm)])


def length_sorted(tokens: Sequence[Tokens], size: int) -> list[list[Tokens]]:
    """Batches of texts of like lengths, in an order that mixes short and long batches."""
    by_length = sorted(tokens, key=lambda text: len(text.ids))
    batches = [by_length[begin : begin + size] for begin in range(0, len(by_length), size)]
    Random(0).shuffle(batches)
    return batches


def _rate(model: LoadedModel, tokens: Sequence[Tokens], task: Batches, warm: set[object]) -> float:
    """Texts a second."""
    batches = length_sorted(tokens, task.texts)
    if task.texts not in warm:
        for batch in batches:
            model.run(batch)
        warm.add(task.texts)
    time.sleep(max(0.0, task.begin - time.monotonic()))
    begin, done = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < task.seconds:
        for batch in batches:
            model.run(batch)
        done += len(tokens)
    return done / elapsed


def _one_by_one(
    model: LoadedModel, tokens: Sequence[Tokens], task: OneByOne, warm: set[object]
) -> list[float]:
    """Seconds of each computation."""
    if task.__class__ not in warm:
        for text in tokens[:WARM_UP_TEXTS]:
            model.run([text])
        warm.add(task.__class__)
    end = time.monotonic() + task.seconds
    return list(_durations(model, tokens, end))


def _durations(model: LoadedModel, tokens: Sequence[Tokens], end: float) -> Iterator[float]:
    while True:
        for text in tokens:
            begin = time.monotonic()
            if begin >= end:
                return
            model.run([text])
            yield time.monotonic() - begin
