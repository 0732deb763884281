"""AdamW with learning rates that fall from the head down to the embeddings."""

import re
from collections import defaultdict

import torch

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def layered_adamw(
    model: torch.nn.Module, learning_rate: float, layer_decay: float, weight_decay: float
) -> torch.optim.AdamW:
    """The head learns at `learning_rate`, each layer below at `layer_decay` times the one above.

    Biases and norms, the parameters of one dimension, have no weight decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    top = max((layer for name, _ in named if (layer := _layer(name)) is not None), default=0)
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = defaultdict(list)
    for name, parameter in named:
        groups[_depth(name, top), parameter.ndim > 1].append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": learning_rate * layer_decay**depth,
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (depth, decays), parameters in groups.items()
        ],
        fused=True,  # one kernel instead of 100 small ones a step
    )


def _depth(name: str, top: int) -> int:
    """Layers between this parameter and the head: 0 for the head itself."""
    layer = _layer(name)
    if layer is not None:
        return top - layer + 1
    return top + 2 if "embeddings" in name else 0


def _layer(name: str) -> int | None:
    match = _LAYER.search(name)
    return int(match.group(1)) if match else None
