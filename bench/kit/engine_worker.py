"""A process without a server that computes texts with one model on one engine."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from inference_svc.engines.choice import create_engine
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import TOKENIZER_FILE, WEIGHTS_FOLDER, read_pad_id, read_spec
from inference_svc.model.text_tokenizer import TextTokenizer, Tokens

WARM_UP_TEXTS = 200


@dataclass(frozen=True)
class EngineSpec:
    """An engine and its number format."""

    kind: str
    precision: str

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.kind} {self.precision}"


@dataclass(frozen=True)
class Batches:
    """A task: compute all texts in length-sorted batches, in whole passes."""

    texts: int
    """Texts in a batch."""

    seconds: float
    """Passes begin until this much time has passed."""

    begin: float
    """Moment of time.monotonic() at which every process starts."""


@dataclass(frozen=True)
class OneByOne:
    """A task: compute the texts one at a time, in their order, for `seconds`."""

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
    """Load the model and answer each task with a list of numbers until the connection is closed.

    The numbers are texts a second for Batches, and seconds of each text for OneByOne.
    """
    model = load(folder, spec)
    # Tokenised before the clock runs: only the engine is measured.
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
    """Batches of texts of similar lengths; short and long batches come in a random order."""
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
