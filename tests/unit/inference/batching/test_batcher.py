"""The batcher: cancellation, failures, timing, and closing."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from inference_svc.batching.batcher import Batcher, EngineFailure
from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.job import Classified, Lane
from inference_svc.batching.text_queue import MANY_TEXTS, TextQueue
from inference_svc.engines.base import FloatArray, IntArray
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.versions.golden_check import check_still_works
from tests.twins.replica import SteeredClassifier, steered_model, until, until_admitted
from tests.unit.inference.batching.jobs import LIMITS


@asynccontextmanager
async def batcher(max_texts: int = 64, limits: BatchLimits = LIMITS) -> AsyncIterator[Batcher]:
    running = Batcher(TextQueue(max_texts, limits), lambda: None, check_still_works)
    running.start()
    try:
        yield running
    finally:
        await running.close()


async def tokenized(running: Batcher, texts: int) -> None:
    async def are_tokenized() -> bool:
        return running.queue.tokenized_texts(Lane.INTERACTIVE) == texts

    await until(are_tokenized)


async def held(
    running: Batcher, model: LoadedModel, classifier: SteeredClassifier
) -> asyncio.Task[Classified]:
    """A call that the engine works on until `go` is set."""
    classifier.go.clear()
    call = asyncio.create_task(running.classify(model, ["a good film"]))
    assert await asyncio.to_thread(classifier.started.acquire, timeout=10)
    return call


async def test_requests_that_wait_are_computed_together(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher() as running:
        first = await held(running, model, classifier)
        others = [asyncio.create_task(running.classify(model, ["a film"])) for _ in range(5)]
        await until_admitted(running, 6)
        classifier.go.set()
        await first
        answers = await asyncio.gather(*others)
    assert [len(batch) for batch in classifier.batches] == [1, 6]  # one row is padding
    assert {answer.timing.batch_texts for answer in answers} == {5}
    assert all(answer.timing.queue_ms > 0 for answer in answers)


class CountingClassifier(SteeredClassifier):
    """Gives each text a hundredth of its number of tokens as its last score."""

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        super().run(ids, mask)
        last = mask.sum(axis=1) / 100
        return np.stack((1 - last, last), axis=1).astype(np.float32)


async def test_request_is_spread_over_batches_and_answered_in_its_order(tmp_path: Path) -> None:
    classifier = CountingClassifier()
    words = [1 + (7 * i) % 90 for i in range(40)]
    async with batcher() as running:
        model = steered_model(tmp_path, classifier)
        answer = await running.classify(model, ["word " * count for count in words])
    assert len(classifier.batches) > 1
    # [CLS] and [SEP] take two of the 64 tokens.
    assert answer.truncated == [count > 62 for count in words]
    tokens = [min(count + 2, 64) for count in words]
    assert answer.scores[:, 1] == pytest.approx([count / 100 for count in tokens])
    assert answer.scores.shape == (40, 2)
    assert 0 <= answer.timing.pad_waste < 1


async def test_cancelled_call_does_not_harm_its_batchmates(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher() as running:
        running_call = await held(running, model, classifier)
        waits = asyncio.create_task(running.classify(model, ["a film"]))
        stays = asyncio.create_task(running.classify(model, ["a film"]))
        await until_admitted(running, 3)
        running_call.cancel()
        waits.cancel()
        await asyncio.wait((running_call, waits))
        classifier.go.set()
        assert (await stays).scores[0, 1] == 0.75
    assert [len(batch) for batch in classifier.batches] == [1, 1]
    assert len(running.queue) == 0


async def test_engine_failure_fails_only_the_batch_that_it_hit(tmp_path: Path) -> None:
    awful = 5  # its token id
    classifier = SteeredClassifier(fails_on=awful)
    model = steered_model(tmp_path, classifier)
    async with batcher(limits=BatchLimits(tokens=256, texts=1)) as running:
        good, bad, spread = await asyncio.gather(
            running.classify(model, ["good"]),
            running.classify(model, ["awful"]),
            running.classify(model, ["good", "awful", "good"]),
            return_exceptions=True,
        )
        assert not isinstance(good, BaseException)
        assert isinstance(bad, EngineFailure)
        assert isinstance(spread, EngineFailure)
        assert (await running.classify(model, ["great"])).scores[0, 1] == 0.75
    assert len(running.queue) == 0


async def test_bulk_waits_for_room_instead_of_failing(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher(max_texts=8) as running:
        jobs = [running.classify_when_room(model, ["good", "bad", "film"]) for _ in range(10)]
        answers = await asyncio.wait_for(asyncio.gather(*jobs), 10)
    assert len(answers) == 10


async def test_an_idle_batcher_holds_no_model(tmp_path: Path) -> None:
    model = steered_model(tmp_path, SteeredClassifier())
    reference = weakref.ref(model)
    async with batcher() as running:
        await running.classify(model, ["a", "b"])
        del model

        async def is_gone() -> bool:
            gc.collect()
            return reference() is None

        await until(is_gone)


async def test_event_loop_stays_free_while_the_engine_computes(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher() as running:
        call = await held(running, model, classifier)
        for _ in range(100):
            await asyncio.sleep(0)  # a blocked loop would not come back before go is set
        classifier.go.set()
        await call


async def test_many_texts_are_tokenised_while_the_engine_computes(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher() as running:
        first = await held(running, model, classifier)
        others = [running.classify(model, ["a film"]) for _ in range(MANY_TEXTS)]
        waiting = asyncio.gather(*others)
        await tokenized(running, MANY_TEXTS)
        classifier.go.set()
        await first
        await waiting


@pytest.mark.parametrize("texts", [1, MANY_TEXTS - 1, MANY_TEXTS, 70])
async def test_closing_answers_every_text_that_waits(
    model: LoadedModel, classifier: SteeredClassifier, texts: int
) -> None:
    async with batcher(max_texts=128) as running:
        first = await held(running, model, classifier)
        others = [asyncio.create_task(running.classify(model, ["film"])) for _ in range(texts)]
        await until_admitted(running, 1 + texts)
        closing = asyncio.create_task(running.close())
        classifier.go.set()
        answers = await asyncio.wait_for(asyncio.gather(first, *others), 60)
        await closing
    assert len(answers) == 1 + texts
