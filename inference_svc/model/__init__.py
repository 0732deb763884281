"""A version in memory: its files, its tokenizer, and how texts are laid out for its engine."""
