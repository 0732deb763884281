"""A batch that fails is computed again in halves, until it is clear what is to blame."""

import asyncio
from collections.abc import Sequence

import pytest

from inference_svc.batching.batch_run import BatchRun, run_batch
from inference_svc.batching.job import Batch, Job
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.versions.golden_check import check_still_works
from tests.twins.replica import SteeredClassifier
from tests.unit.inference.batching.jobs import make_job, queued

POISON = 9
GOOD = 1


@pytest.fixture
def classifier() -> SteeredClassifier:
    return SteeredClassifier(fails_on=POISON)


def batch_of(loop: asyncio.AbstractEventLoop, model: LoadedModel, texts: str) -> Batch:
    """A batch with a job for each letter: "x" stands for a text on which the engine fails."""
    lengths = [3] * len(texts)
    one_job = queued(make_job(loop, model, len(texts)), lengths)
    mixed = []
    for letter, text in zip(texts, one_job, strict=True):
        job = make_job(loop, model)
        text.tokens.ids[0] = POISON if letter == "x" else GOOD
        job.tokens = [text.tokens]
        mixed.append(type(text)(job, 0, text.rank, text.tokens, text.cost))
    return Batch(tuple(mixed))


def failed_texts(batch: Batch, run: BatchRun) -> str:
    """The batch's texts as they came out: "x" for those that failed."""
    return "".join("x" if text.job in run.failed else "." for text in batch.texts)


def answered(jobs: Sequence[Job]) -> bool:
    return all(job.classified().top == [0.75] for job in jobs)


@pytest.mark.parametrize(
    "texts", ["x", ".x", "x.......", "...x....", "xx......", "x..x..xx", "xxx.", "." * 63 + "x"]
)
def test_a_text_on_which_the_engine_fails_hurts_its_own_call_only(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, texts: str
) -> None:
    batch = batch_of(loop, model, texts)
    run = run_batch(batch, check_still_works)
    assert run.broken is None
    assert failed_texts(batch, run) == texts
    assert answered([text.job for text in batch.texts if text.job not in run.failed])


def test_a_call_full_of_such_texts_costs_a_bounded_number_of_computations(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, classifier: SteeredClassifier
) -> None:
    batch = batch_of(loop, model, "x" * 64)
    run = run_batch(batch, check_still_works)
    assert failed_texts(batch, run) == "x" * 64
    # The halves, and one check for each text that is blamed.
    assert len(classifier.batches) <= 127 + 64


def test_the_other_texts_of_a_call_that_has_failed_are_not_computed(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, classifier: SteeredClassifier
) -> None:
    job = make_job(loop, model, 8)
    texts = queued(job, [3] * 8)
    texts[0].tokens.ids[0] = POISON
    job.tokens = [text.tokens for text in texts]
    run = run_batch(Batch(tuple(texts)), check_still_works)
    assert run.failed == [job]
    assert len(classifier.batches) == 5  # 8, 4, 2 and 1 texts, and a check


def test_out_of_memory_is_halved_until_it_fits(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, classifier: SteeredClassifier
) -> None:
    classifier.most_texts = 16
    batch = batch_of(loop, model, "." * 64)
    run = run_batch(batch, check_still_works)
    assert (run.failed, run.broken, run.failures) == ([], None, 3)
    assert answered([text.job for text in batch.texts])


@pytest.mark.parametrize("texts", [".", "." * 64, "x" * 64])
def test_an_engine_that_computes_nothing_is_found_out_at_once(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, classifier: SteeredClassifier, texts: str
) -> None:
    classifier.lost = RuntimeError("CUDA error: an illegal memory access was encountered")
    run = run_batch(batch_of(loop, model, texts), check_still_works)
    assert run.broken is classifier.lost
    assert run.failed == []
    assert len(classifier.batches) <= 8  # 64, 32, 16, 8, 4, 2 and 1 texts, and the check


def test_an_engine_that_is_lost_within_a_batch_costs_one_call_at_most(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, classifier: SteeredClassifier
) -> None:
    class LostLater(Exception):
        pass

    calls = []

    def lost_after_the_first_half(loaded: LoadedModel) -> None:
        calls.append(loaded)
        raise LostLater

    batch = batch_of(loop, model, "....x...")
    run_of_half = classifier.run

    def run(ids, mask):  # type: ignore[no-untyped-def]
        scores = run_of_half(ids, mask)
        classifier.lost = RuntimeError("lost")
        return scores

    classifier.run = run  # type: ignore[method-assign]
    outcome = run_batch(batch, lost_after_the_first_half)
    assert isinstance(outcome.broken, LostLater)
    assert len(outcome.failed) <= 1
    assert len(calls) == 1
