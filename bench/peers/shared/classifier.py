"""The model that every peer serves, with torch and transformers as their users write it."""

import os
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Classifier:
    """Reads BENCH_MODEL (folder), BENCH_PRECISION (fp32 or bf16) and BENCH_THREADS."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
        folder = os.environ["BENCH_MODEL"]
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[os.environ["BENCH_PRECISION"]]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """One label with its score for each text, computed as one batch."""
        batch = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        scores, best = self.model(**batch).logits.float().softmax(-1).max(-1)
        names = self.model.config.id2label
        return [
            {"label": names[index], "score": score}
            for index, score in zip(best.tolist(), scores.tolist(), strict=True)
        ]
