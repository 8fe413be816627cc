"""The dropout of a model, after it was loaded."""

from __future__ import annotations

import copy
from typing import Any

import torch

from .load import quiet

# What configs call the rate of hidden states. BART's relatives have rates of their own for attention weights and
# activations, T5 has this one for all.
_HIDDEN = ("dropout", "dropout_rate", "hidden_dropout_prob")


def set_dropout(model: Any, hidden: float) -> None:
    """Every rate as a model has it whose config says `hidden`. The config itself stays as it is.

    Layers keep rates under names that say little: `dropout` of BART's attention is the config's `attention_dropout`.
    So a model without weights is built from such a config, and what it has is taken over."""
    config = copy.deepcopy(model.config)
    setattr(config, next(name for name in _HIDDEN if hasattr(config, name)), hidden)
    with quiet(), torch.device("meta"):
        built = dict(type(model)(config).named_modules())
    for name, module in model.named_modules():
        for attribute, value in vars(built[name]).items():
            if isinstance(value, float) and vars(module).get(attribute) != value:
                setattr(module, attribute, value)
