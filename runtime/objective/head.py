"""The vocabulary projection and the terms of the logits, on valid positions, a chunk at a time.

Logits of all positions would be the largest tensors of a training: tokens times vocabulary, several times over.
Here each chunk's logits live only while its terms are computed, and its gradient is computed at once, in the
forward pass; what is kept is the size of the hidden states. On a CPU the terms of a chunk are computed a block of
rows at a time: a matrix product wants many rows, what a term makes of its logits wants to stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.head import Head, chunks

BLOCK_BYTES = 2 << 20  # of one block's logits, for each thread of a CPU

# (first row, end row, student logits (n, V), teacher logits (n, V')) -> the weighted sum and the raw sums of the terms
Terms = Callable[[int, int, Tensor, Tensor | None], tuple[Tensor, Tensor]]
# (first row, end row) -> the teacher's logits of a chunk (n, V'); None where no term looks at them
TeacherLogits = Callable[[int, int], Tensor | None]


class HeadTerms(nn.Module):
    """The weighted sum of the terms of the logits over all rows. A module of its own, so that ZeRO-3 has the
    projection whole while it is used."""

    def __init__(self, student: Head) -> None:
        super().__init__()
        self.student = student

    def forward(
        self, rows: Tensor, terms: Terms, num_terms: int, gradient: bool, teacher: TeacherLogits | None = None
    ) -> tuple[Tensor, Tensor]:
        """rows (N, d): the student's decoder states at the valid positions. `teacher`: asked once a chunk. Returns
        (weighted sum, with a gradient if there is to be one; raw sums (num_terms,), without)."""
        student = self.student
        weight, linear_bias = student.linear.weight, student.linear.bias
        result: tuple[Tensor, Tensor] = _Chunked.apply(  # type: ignore[no-untyped-call]
            rows, weight, linear_bias, student.bias, student.scale, terms, num_terms, gradient, teacher
        )
        return result


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,
        weight: Tensor,
        linear_bias: Tensor | None,
        bias: Tensor | None,
        scale: float,
        terms: Terms,
        num_terms: int,
        gradient: bool,
        teacher: TeacherLogits | None,
    ) -> tuple[Tensor, Tensor]:
        wanted_of = (rows, weight, linear_bias)
        needs = [gradient and tensor is not None and tensor.requires_grad for tensor in wanted_of]
        # Sums of many chunks are kept in float32 at least, whatever the weights are.
        dtype = torch.promote_types(rows.dtype, torch.float32)
        sums = torch.zeros(num_terms, device=rows.device, dtype=dtype)
        total = torch.zeros((), device=rows.device, dtype=dtype)
        rows_grad = torch.zeros_like(rows)
        weight_grad = torch.zeros_like(weight, dtype=dtype) if needs[1] else None
        bias_grad = torch.zeros_like(linear_bias, dtype=dtype) if linear_bias is not None and needs[2] else None
        for start, end in chunks(len(rows), weight.shape[0]):
            part = rows[start:end] * scale if scale != 1.0 else rows[start:end]  # (n, d)
            logits = nn.functional.linear(part, weight, linear_bias)  # (n, V)
            if bias is not None:
                logits = logits + bias.to(logits)
            teacher_logits = None if teacher is None else teacher(start, end)  # (n, V')
            for first, last in blocks(logits):
                with torch.set_grad_enabled(gradient):
                    own = logits[first:last].detach().requires_grad_(gradient)
                    other = None if teacher_logits is None else teacher_logits[first:last]
                    weighted, raw = terms(start + first, start + last, own, other)
                sums += raw
                total += weighted.detach()
                if gradient:  # these logits are not needed any more: their gradient takes their place
                    logits[first:last] = torch.autograd.grad(weighted, own)[0]
            if not gradient:
                continue
            rows_grad[start:end] = logits @ weight * scale if scale != 1.0 else logits @ weight
            if weight_grad is not None:
                weight_grad += logits.T @ part
            if bias_grad is not None:
                bias_grad += logits.sum(dim=0)
        context.save_for_backward(rows_grad, weight_grad, bias_grad)
        context.dtypes = (weight.dtype, None if linear_bias is None else linear_bias.dtype)
        context.mark_non_differentiable(sums)
        return total, sums

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Any, ...]:
        rows_grad, weight_grad, bias_grad = context.saved_tensors
        outer = gradients[0]
        weight_dtype, bias_dtype = context.dtypes
        return (
            rows_grad * outer.to(rows_grad),
            None if weight_grad is None else (weight_grad * outer).to(weight_dtype),
            None if bias_grad is None else (bias_grad * outer).to(bias_dtype),
            *[None] * 6,
        )


def blocks(logits: Tensor) -> Sequence[tuple[int, int]]:
    """(first row, end row) of each block of a chunk's logits (n, V). An accelerator takes a chunk as it is."""
    num_rows, vocabulary = logits.shape
    size = max(1, num_rows)
    if logits.device.type == "cpu":
        size = max(1, BLOCK_BYTES * torch.get_num_threads() // (logits.element_size() * vocabulary))
    return [(start, min(start + size, num_rows)) for start in range(0, max(1, num_rows), size)]
