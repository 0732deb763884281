"""Tokenises the texts of several jobs in one call."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby

from inference_svc.batching.job import Job
from inference_svc.model.text_tokenizer import Tokens

Tokenized = tuple[Job, list[Tokens]]


def tokenize(jobs: Sequence[Job], failed: Callable[[Job, Exception], None]) -> list[Tokenized]:
    """Return the jobs with the tokens of their texts, in their order.

    Calls `failed` for each job whose texts cannot be tokenised, and leaves that job out.
    """
    tokenized: list[Tokenized] = []
    for _, same_model in groupby(jobs, key=lambda job: job.model):
        tokenized += _tokenize_together(list(same_model), failed)
    return tokenized


def _tokenize_together(
    jobs: Sequence[Job], failed: Callable[[Job, Exception], None]
) -> list[Tokenized]:
    started = time.monotonic()
    try:
        tokens = jobs[0].model.tokenizer.encode([text for job in jobs for text in job.texts])
    except Exception as error:
        if len(jobs) == 1:
            failed(jobs[0], error)
            return []
        # One by one, so that no job fails for the text of another.
        return [pair for job in jobs for pair in _tokenize_together([job], failed)]
    ms = (time.monotonic() - started) * 1e3
    tokenized = []
    begin = 0
    for job in jobs:
        end = begin + len(job.texts)
        job.timing.tokenize_ms = ms
        tokenized.append((job, tokens[begin:end]))
        begin = end
    return tokenized
