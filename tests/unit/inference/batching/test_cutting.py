"""Which waiting texts make a batch, and the shapes that batches have."""

import asyncio

import pytest

from inference_svc.batching.cutting import BATCH_OVERHEAD_TOKENS, BatchLimits, cut_batch
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.shapes import padded_texts, padded_tokens
from tests.unit.inference.batching.jobs import make_job, queued


def test_batch_holds_the_oldest_text_and_those_nearest_in_length(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = queued(make_job(loop, model), [20, 60, 21, 5, 19, 18, 64])
    batch = cut_batch(texts, BatchLimits(tokens=96, texts=8))
    assert sorted(text.length for text in batch.texts) == [18, 19, 20, 21]
    computed = model.run([text.tokens for text in batch.texts])
    assert computed.tokens == 4 * 24
    assert batch.pad_waste(computed.tokens) == pytest.approx(1 - 78 / 96)


def test_batch_never_computes_more_padding_than_another_batch_would_cost(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = queued(make_job(loop, model), [4, BATCH_OVERHEAD_TOKENS + 5])
    assert len(cut_batch(texts, BatchLimits(tokens=10_000, texts=8)).texts) == 1


def test_text_longer_than_the_token_limit_gets_a_batch_of_its_own(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    texts = queued(make_job(loop, model), [500, 500])
    assert len(cut_batch(texts, BatchLimits(tokens=256, texts=8)).texts) == 1


def test_batches_have_few_distinct_shapes(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    shapes = set()
    for count in range(1, 65):
        texts = queued(make_job(loop, model), [3 + count % 61] * count)
        taken = cut_batch(texts, BatchLimits(tokens=1024, texts=64)).texts
        assert len(taken) > count - 4 or len(taken) * taken[0].length > 512
        shapes.add((padded_texts(len(taken)), padded_tokens(taken[0].length, 64)))
    assert {rows * tokens % 8 for rows, tokens in shapes} == {0}
    assert {rows % 4 for rows, _ in shapes if rows > 8} == {0}


def test_padding_never_goes_beyond_what_the_model_takes() -> None:
    assert padded_tokens(61, max_tokens=62) == 62
    assert padded_tokens(9, max_tokens=512) == 16
