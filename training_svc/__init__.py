"""The training service: fine-tunes, evaluates, registers and promotes versions."""
