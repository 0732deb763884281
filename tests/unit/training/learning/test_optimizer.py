"""The learning rates of the layers."""

from pathlib import Path

from training_svc.learning.model_loading import load_base
from training_svc.learning.optimizer import layered_adamw


def test_learning_rate_falls_from_head_to_embeddings(tiny_bert: Path) -> None:
    model, _ = load_base(str(tiny_bert), ["a", "b"], "eager")
    rates = {
        id(p): group["lr"]
        for group in layered_adamw(model, 1.0, 0.5, 0.1).param_groups
        for p in group["params"]
    }
    named = {name: rates[id(p)] for name, p in model.named_parameters() if id(p) in rates}
    assert named["classifier.weight"] == named["bert.pooler.dense.weight"] == 1.0
    assert named["bert.encoder.layer.0.output.dense.weight"] == 0.5
    assert named["bert.embeddings.position_embeddings.weight"] == 0.25
    assert "bert.embeddings.word_embeddings.weight" not in named  # these do not learn
