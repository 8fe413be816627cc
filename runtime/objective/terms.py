"""The terms of the objective as pure functions of tensors.

Each returns the SUM over its valid items. What it is divided by, the number of valid items of the whole
optimizer step over all ranks and micro-batches, is one number that the loop knows before the first backward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..models.families import IGNORED
from ..protocol import Term, TermInputs


def labels_term(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of the labels, in nats, summed over label tokens (Eq 1 of Shleifer & Rush 2020).

    logits (..., V), any float type; labels (...) int64 with `IGNORED` where nothing is to be learnt. Divided
    by the number of label tokens it equals torch's mean cross-entropy; with `smoothing` e the mean form of
    label smoothing, (1 - e) nll + e/V sum of -log p (the 2020 code summed it over the batch instead).
    Computed in float32 at least. Returns a scalar.

    Float labels are numbers that the one output, logits (..., 1), has to be: the sum of the squared errors.
    """
    if labels.is_floating_point():
        return (logits[..., 0].to(torch.promote_types(logits.dtype, torch.float32)) - labels).square().sum()
    return functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).to(torch.promote_types(logits.dtype, torch.float32)),
        labels.reshape(-1),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )


# --- as they are registered ------------------------------------------------------------------------


def _labels(inputs: TermInputs, settings: Mapping[str, Any]) -> Tensor:
    assert inputs.student.logits is not None
    return labels_term(inputs.student.logits, inputs.labels, settings["smoothing"])


LABELS = Term(sum=_labels, items="label-tokens", needs=frozenset({"logits"}))
