"""Give a model a head of its own.

transformers 5 ties every T5 it builds, also those whose checkpoints hold a separate head (T5 v1.1, Flan).
Loading such weights into a tied model overwrites the shared embedding with the head (domain facts 11.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .families import family_of, head, head_is_tied


def untie_head(model: Any) -> None:
    """A fresh matrix for the head, drawn as the family draws it; nothing happens where it has its own."""
    if not head_is_tied(model):
        return
    module: Any = head(model)
    weight = nn.Parameter(torch.empty_like(module.weight))  # (V, d_model)
    config: Any = model.config
    std: Any = getattr(config, "init_std", None) or getattr(config, "initializer_factor", 1.0)
    with torch.no_grad():
        weight.normal_(0.0, std)
    module.weight = weight
    # A later tie_weights() of transformers' own (it runs on loading and resizing) must not undo it.
    model.all_tied_weights_keys.pop(f"{family_of(model).head}.weight", None)
