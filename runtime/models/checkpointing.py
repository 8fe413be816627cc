"""Activation checkpointing: a layer keeps its input for the backward pass, and is run again there."""

from __future__ import annotations

from typing import Any

from ..failure import Failure


def keep_inputs_alone(model: Any) -> None:
    """From now on every layer that is in train mode keeps its input alone; what is frozen is in eval mode and keeps
    nothing anyway. Results are the same: the second run draws the same dropout.

    Not torch's reentrant form: it asks for inputs with a gradient, which those of a first layer have not. Hooks on
    the layers see the first run alone: transformers 5 wraps what is within them, earlier ones run again when what
    captures states has gone (`forward.capture_activations`).

    Raises `Failure` R371: layers of the model cannot be run so."""
    options = {"use_reentrant": False}
    try:
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(options)
        else:
            model.gradient_checkpointing_enable(options)
    except ValueError as error:
        raise Failure(
            "R371",
            f"activations of {type(model).__name__} cannot be computed again: {error}",
            "write `checkpointing: false` into the site",
        ) from error
