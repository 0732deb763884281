"""Few distinct batch shapes: engines make and keep code for each, in milliseconds and megabytes.

Measured with torch's bf16 layers (oneDNN), MiniLM on one core: each new number of tokens cost
15 ms and 4 MB, and odd numbers ran up to half as fast.
"""

# (longest batch in tokens, step): padding up to the next step.
_TOKEN_STEPS = ((64, 8), (256, 16))
_LONG_STEP = 64
# Above so many texts the count is a multiple of the step, below it is even (or 1).
_FEW_TEXTS = 8
_TEXT_STEP = 4


def padded_tokens(longest: int, max_tokens: int) -> int:
    """Tokens to which a batch is padded when its longest text has `longest`."""
    step = next((step for limit, step in _TOKEN_STEPS if longest <= limit), _LONG_STEP)
    return max(longest, min(round_up(longest, step), max_tokens))


def padded_texts(texts: int) -> int:
    """Rows to which a batch of so many texts is padded."""
    if texts == 1:
        return 1
    return round_up(texts, 2 if texts <= _FEW_TEXTS else _TEXT_STEP)


def full_texts(texts: int) -> int:
    """The largest number of texts, of those that could be had, that needs no padding rows.

    Few are taken as they are: an empty row costs less than a further batch.
    """
    return texts if texts <= _FEW_TEXTS else texts - texts % _TEXT_STEP


def round_up(value: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-value // step) * step
