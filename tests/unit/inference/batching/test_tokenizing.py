"""Texts of several jobs are tokenised in one call."""

import asyncio
from collections.abc import Sequence

import pytest

from inference_svc.batching.job import Job, Lane
from inference_svc.batching.tokenizing import tokenize
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.text_tokenizer import Tokens


async def test_jobs_are_tokenised_together_and_fail_alone(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def encode(texts: Sequence[str]) -> list[Tokens]:
        calls.append(list(texts))
        if "broken" in texts:
            raise ValueError("no tokens for this")
        return [Tokens([len(text)], truncated=False) for text in texts]

    monkeypatch.setattr(model.tokenizer, "encode", encode)
    loop = asyncio.get_running_loop()
    texts = [["a", "bb"], ["broken"], ["cccc"]]
    jobs = [Job(model, part, Lane.INTERACTIVE, None, loop.create_future()) for part in texts]
    failed: list[Job] = []
    tokenized = tokenize(jobs, lambda job, _: failed.append(job))
    assert calls == [["a", "bb", "broken", "cccc"], ["a", "bb"], ["broken"], ["cccc"]]
    ids = [(job, [text.ids for text in tokens]) for job, tokens in tokenized]
    assert ids == [(jobs[0], [[1], [2]]), (jobs[2], [[4]])]
    assert failed == [jobs[1]]
