"""Keeps batch shapes few: for each, an engine spends milliseconds on code that takes megabytes.

Measured with torch's bf16 layers (oneDNN), MiniLM on one core: each new number of tokens cost
15 ms and 4 MB, and odd numbers ran up to half as fast.
"""

# (longest text in tokens, step): up to that length, texts are padded to a multiple of the step.
_TOKEN_STEPS = ((64, 8), (256, 16))
_LONG_STEP = 64
# Above this many texts their number is a multiple of _TEXT_STEP; up to it, it is even or 1.
_FEW_TEXTS = 8
_TEXT_STEP = 4


def padded_tokens(longest: int, max_tokens: int) -> int:
    """Tokens to which a batch is padded when its longest text has `longest`."""
    step = next((step for limit, step in _TOKEN_STEPS if longest <= limit), _LONG_STEP)
    return max(longest, min(round_up(longest, step), max_tokens))


def padded_texts(texts: int) -> int:
    """Rows to which a batch of `texts` texts is padded."""
    if texts == 1:
        return 1
    return round_up(texts, 2 if texts <= _FEW_TEXTS else _TEXT_STEP)


def full_texts(texts: int) -> int:
    """The largest number of texts, up to `texts`, that needs no padding rows.

    Up to _FEW_TEXTS it is `texts` itself: an empty row costs less than a further batch.
    """
    return texts if texts <= _FEW_TEXTS else texts - texts % _TEXT_STEP


def round_up(value: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-value // step) * step
