"""Which encoder signals came through."""

from __future__ import annotations

import hashlib
from typing import Any

from ..models.families import stack_of


def encoder_digest(model: Any) -> str:
    """sha256 of the weights of a model's encoder, embeddings and norms included, as fp32."""
    found = hashlib.sha256()
    for name, tensor in sorted(stack_of(model, "encoder").state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
