"""The names in a version's golden file; importing them imports no library."""

GOLDEN_FILE = "golden.json"
MADE = "made"  # true: the texts are made of words of the vocabulary, and none is a row's
