"""The queue and the batcher: order, bounds, cancellation, failures, timing."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inference_svc.batching.batcher import Batcher, EngineFailure
from inference_svc.batching.cutting import BATCH_OVERHEAD_TOKENS, BatchLimits, cut_batch
from inference_svc.batching.job import Classified, Job, Lane, QueuedText
from inference_svc.batching.text_queue import BULK_TURN, TextQueue
from inference_svc.batching.tokenizing import MANY_TEXTS, Tokenizing
from inference_svc.model.loaded_model import LoadedModel, Tokens
from inference_svc.model.shapes import padded_texts, padded_tokens
from service_kit.errors import Exhausted
from tests.twins.replica import Clock, SteeredClassifier, steered_model, until, until_admitted

LIMITS = BatchLimits(tokens=256, texts=8)


@pytest.fixture
def classifier() -> SteeredClassifier:
    return SteeredClassifier()


@pytest.fixture
def model(tmp_path: Path, classifier: SteeredClassifier) -> LoadedModel:
    return steered_model(tmp_path, classifier)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@asynccontextmanager
async def batcher(max_texts: int = 64, limits: BatchLimits = LIMITS) -> AsyncIterator[Batcher]:
    running = Batcher(TextQueue(max_texts, limits), lambda: None)
    running.start()
    try:
        yield running
    finally:
        await running.close()


async def tokenized(running: Batcher, texts: int) -> None:
    async def are_tokenized() -> bool:
        return len(running._queue._waiting[Lane.INTERACTIVE]) == texts

    await until(are_tokenized)


async def held(
    running: Batcher, model: LoadedModel, classifier: SteeredClassifier
) -> asyncio.Task[Classified]:
    """A call that the engine works on until `go` is set."""
    classifier.go.clear()
    call = asyncio.create_task(running.classify(model, ["a good film"]))
    assert await asyncio.to_thread(classifier.started.acquire, timeout=10)
    return call


def make_job(
    loop: asyncio.AbstractEventLoop,
    model: LoadedModel,
    texts: int = 1,
    lane: Lane = Lane.INTERACTIVE,
    deadline: float | None = None,
) -> Job:
    return Job(model, ["good"] * texts, lane, deadline, loop.create_future())


def submit(queue: TextQueue, job: Job, length: int = 3) -> Job:
    queue.admit(job)
    queue.put(job, [Tokens([1] * length, truncated=False)] * len(job.texts))
    return job


def waiting(job: Job, lengths: list[int]) -> list[QueuedText]:
    return [
        QueuedText(job, i, float(i), Tokens([1] * length, truncated=False), length)
        for i, length in enumerate(lengths)
    ]


def test_batch_holds_the_oldest_text_and_those_nearest_in_length(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = waiting(make_job(loop, model), [20, 60, 21, 5, 19, 18, 64])
    batch = cut_batch(texts, BatchLimits(tokens=96, texts=8))
    assert sorted(text.length for text in batch.texts) == [18, 19, 20, 21]
    assert batch.pad_waste == pytest.approx(1 - 78 / 96)  # 4 × 24 are computed


def test_batch_never_computes_more_padding_than_another_batch_would_cost(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = waiting(make_job(loop, model), [4, BATCH_OVERHEAD_TOKENS + 5])
    assert len(cut_batch(texts, BatchLimits(tokens=10_000, texts=8)).texts) == 1


def test_text_longer_than_the_token_limit_gets_a_batch_of_its_own(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = waiting(make_job(loop, model), [500, 500])
    assert len(cut_batch(texts, BatchLimits(tokens=256, texts=8)).texts) == 1


def test_batches_have_few_distinct_shapes(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    shapes = set()
    for count in range(1, 65):
        texts = waiting(make_job(loop, model), [3 + count % 61] * count)
        taken = cut_batch(texts, BatchLimits(tokens=1024, texts=64)).texts
        assert len(taken) > count - 4 or len(taken) * taken[0].length > 512
        shapes.add((padded_texts(len(taken)), padded_tokens(taken[0].length, 64)))
    assert {rows * tokens % 8 for rows, tokens in shapes} == {0}
    assert {rows % 4 for rows, _ in shapes if rows > 8} == {0}


def test_padding_never_goes_beyond_what_the_model_takes() -> None:
    assert padded_tokens(61, max_tokens=62) == 62
    assert padded_tokens(9, max_tokens=512) == 16


def test_batch_never_mixes_models(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, tmp_path: Path
) -> None:
    other = steered_model(tmp_path / "other", SteeredClassifier())
    texts = waiting(make_job(loop, model), [3, 3]) + waiting(make_job(loop, other), [3, 3])
    batch = cut_batch(texts, LIMITS)
    assert len(batch.texts) == 2
    assert batch.model is model


def test_small_request_does_not_wait_for_a_large_one_before_it(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(1024, LIMITS, clock)
    submit(queue, make_job(loop, model, texts=8))
    measured = queue.take()
    assert measured is not None
    queue.complete(measured, seconds=0.1)
    large = submit(queue, make_job(loop, model, texts=512))
    clock.now += 0.1
    small = submit(queue, make_job(loop, model))
    # Its turn comes after what the large one was due by now, not after all of it.
    for _ in range(3):
        batch = queue.take()
        assert batch is not None
        queue.complete(batch, seconds=0.1)
        clock.now += 0.1
    assert small.left == 0
    assert large.left > 400


def test_interactive_goes_first_but_bulk_does_not_starve(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(256, BatchLimits(tokens=256, texts=1))
    bulk = submit(queue, make_job(loop, model, texts=8, lane=Lane.BULK))
    submit(queue, make_job(loop, model, texts=32))
    lanes = []
    for _ in range(2 * BULK_TURN):
        batch = queue.take()
        assert batch is not None
        lanes.append(batch.texts[0].job is bulk)
    assert lanes.count(True) == 2
    assert not lanes[0]


def test_full_queue_refuses_with_a_delay_from_recent_throughput(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(16, LIMITS)
    submit(queue, make_job(loop, model, texts=16))
    batch = queue.take()
    assert batch is not None
    queue.complete(batch, seconds=8.0)  # 8 texts in 8 s
    with pytest.raises(Exhausted) as refused:
        queue.admit(make_job(loop, model, texts=12))
    assert refused.value.retry_after_s == pytest.approx(4.0, rel=0.1)


def test_bulk_leaves_room_for_interactive(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(16, LIMITS)
    submit(queue, make_job(loop, model, texts=8, lane=Lane.BULK))
    with pytest.raises(Exhausted):
        queue.admit(make_job(loop, model, lane=Lane.BULK))
    queue.admit(make_job(loop, model, texts=8))


def test_request_that_would_miss_its_deadline_is_refused(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, LIMITS, clock)
    submit(queue, make_job(loop, model, texts=32))
    batch = queue.take()
    assert batch is not None
    queue.complete(batch, seconds=8.0)
    submit(queue, make_job(loop, model, texts=8))
    with pytest.raises(Exhausted, match="deadline"):
        queue.admit(make_job(loop, model, deadline=clock.now + 1))
    queue.admit(make_job(loop, model, deadline=clock.now + 60))


def test_withdrawn_job_leaves_the_queue_and_gives_its_room_back(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(32, LIMITS)
    withdrawn = submit(queue, make_job(loop, model, texts=20))
    batch = queue.take()
    assert batch is not None
    queue.withdraw(withdrawn)
    assert len(queue) == len(batch.texts)
    assert queue.complete(batch, 0.1) == []
    assert len(queue) == 0
    untokenized = make_job(loop, model, texts=20)
    queue.admit(untokenized)
    queue.withdraw(untokenized)
    queue.put(untokenized, [Tokens([1], truncated=False)] * 20)
    assert len(queue) == 0


async def test_what_waits_is_taken_together(
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


async def test_request_is_spread_over_batches_and_answered_in_its_order(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    texts = ["word " * (1 + (7 * i) % 90) for i in range(40)]
    async with batcher() as running:
        answer = await running.classify(model, texts)
    assert len(classifier.batches) > 1
    assert answer.scores.shape == (40, 2)
    # [CLS] and [SEP] take two of the 64 tokens.
    assert answer.truncated == [1 + (7 * i) % 90 > 62 for i in range(40)]
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
    assert len(running._queue) == 0


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
    assert len(running._queue) == 0


async def test_bulk_waits_for_room_instead_of_failing(
    model: LoadedModel, classifier: SteeredClassifier
) -> None:
    async with batcher(max_texts=8) as running:
        jobs = [running.classify_when_room(model, ["good", "bad", "film"]) for _ in range(10)]
        answers = await asyncio.wait_for(asyncio.gather(*jobs), 10)
    assert len(answers) == 10


async def test_a_batcher_that_waits_holds_no_model(tmp_path: Path) -> None:
    model = steered_model(tmp_path, SteeredClassifier())
    known = weakref.ref(model)
    async with batcher() as running:
        await running.classify(model, ["a", "b"])
        del model

        async def is_gone() -> bool:
            gc.collect()
            return known() is None

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


async def test_what_waits_is_tokenised_together_and_fails_alone(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def encode(texts: Sequence[str]) -> list[Tokens]:
        calls.append(list(texts))
        if "broken" in texts:
            raise ValueError("no tokens for this")
        return [Tokens([len(text)], truncated=False) for text in texts]

    monkeypatch.setattr(model.tokenizer, "encode", encode)
    tokens: dict[Job, list[Tokens]] = {}
    failed: list[Job] = []
    tokenizing = Tokenizing(tokens.__setitem__, lambda job, _: failed.append(job), lambda: None)
    loop = asyncio.get_running_loop()
    texts = [["a", "bb"], ["broken"], ["cccc"]]
    jobs = [Job(model, part, Lane.INTERACTIVE, None, loop.create_future()) for part in texts]
    tokenizing.submit(jobs[:1])
    tokenizing.submit(jobs[1:])
    tokenizing.catch_up()
    assert calls == [["a", "bb", "broken", "cccc"], ["a", "bb"], ["broken"], ["cccc"]]
    lengths = {job: [found.ids for found in of] for job, of in tokens.items()}
    assert lengths == {jobs[0]: [[1], [2]], jobs[2]: [[4]]}
    assert failed == [jobs[1]]


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
async def test_however_many_wait_when_it_closes_all_are_answered(
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
