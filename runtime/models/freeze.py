"""What is trained and what is not.

In: a model and the parts to freeze. The flags are not saved with a model, so they are set again after
every load. A frozen part also stays in eval mode (no dropout), and what frozen means is that its output
never changes: the encoder's token embeddings are frozen with it, also where the decoder and the head
share them. Source: domain facts 4.3, 4.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from ..failure import Failure
from .families import family_of, head, head_is_tied, num_elements, positions, stack_of, token_embeddings


@dataclass(frozen=True)
class FreezeReport:
    """Numbers of parameters, each shared one once."""

    trainable: int
    frozen: int


def freeze(model: nn.Module, parts: Iterable[str]) -> FreezeReport:
    """Make everything trainable but the parts: encoder, embeddings, positions.

    encoder: all of the stack, its norms and embeddings included. embeddings: `shared`, both
    `embed_tokens`, and the head where it is tied to them. positions: both `embed_positions`. Norms of
    the decoder stay trainable. Sinusoidal positions are a constant and never trained.

    Raises `Failure` R240: an unknown part.
    """
    model.requires_grad_(True)
    for part in parts:
        for module in _modules(model, part):
            module.requires_grad_(False)
    if family_of(model).sinusoidal:
        for module in positions(model):
            module.requires_grad_(False)
    trainable = sum(num_elements(p) for p in model.parameters() if p.requires_grad)
    frozen = sum(num_elements(p) for p in model.parameters() if not p.requires_grad)
    return FreezeReport(trainable, frozen)


def frozen_modules(model: nn.Module, parts: Iterable[str]) -> list[nn.Module]:
    """The modules that stay in eval mode while the model is trained."""
    return [module for part in parts for module in _modules(model, part)]


def set_train_mode(model: nn.Module, parts: Iterable[str]) -> None:
    """Train mode for the model, eval mode (dropout off) for what is frozen."""
    model.train()
    for module in frozen_modules(model, parts):
        module.eval()


def _modules(model: nn.Module, part: str) -> list[nn.Module]:
    if part == "encoder":
        return [stack_of(model, "encoder")]
    if part == "embeddings":
        return [*token_embeddings(model), *([head(model)] if head_is_tied(model) else [])]
    if part == "positions":
        return positions(model)
    raise Failure("R240", f"nothing is named {part!r} that could be frozen",
                  "freeze encoder, embeddings or positions", spec_path="student.freeze")
