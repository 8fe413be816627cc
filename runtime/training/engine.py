"""The DeepSpeed engine: how an objective, its optimizer and the step's arithmetic meet.

A term of the loss is a mean over ALL its items of the optimizer step (label tokens, source tokens, examples).
Every backward therefore gets the sums over its micro-batch divided by the step's counts (the factors of the
objective); ranks are averaged by DeepSpeed, hence its factor `world`. Accumulation and the number of ranks do
not change the loss.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..failure import Failure
from ..models.checkpointing import keep_inputs_alone
from ..plan.plan import Stage
from ..plan.settings import TrainSettings
from .cpu_adam import cpu_adam


def start_engine(objective: Any, stage: Stage) -> Any:
    """A DeepSpeed engine around the objective, with the plan's config.

    Raises `Failure` R303: nothing is left to train, the number of trainable parameters is not the plan's, or the
    optimizer does not go with its ZeRO stage.
    R370: the optimizer of an offload cannot be compiled. R371: the model cannot be checkpointed.
    """
    import deepspeed

    settings: TrainSettings = stage.settings
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    num_trainable = sum(parameter.numel() for parameter in parameters)
    if num_trainable == 0:
        raise Failure(
            "R303",
            "everything is frozen: there is nothing to train",
            "set student.freeze to less",
            spec_path="student.freeze",
        )
    num_trainable -= objective.projections.num_parameters  # the plan counts the student's
    if num_trainable != settings.trainable_parameters:
        raise Failure(
            "R303",
            f"{num_trainable:,} parameters are trainable, the plan says {settings.trainable_parameters:,}",
            "compile the spec again; if that does not help, report it",
        )
    execution = stage.execution
    if execution.teacher_deepspeed is not None and objective.teacher is not None:
        objective.teacher.shard(execution.teacher_deepspeed)  # first: there is most room for it now
    if execution.checkpointing:
        keep_inputs_alone(objective.student)
    config = dict(execution.deepspeed or {})
    partitions = config.get("zero_optimization", {})
    if settings.optimizer.name == "adafactor" and partitions.get("stage", 0) > 0:
        raise Failure(
            "R303",
            f"adafactor cannot step on the shares of flattened weights that ZeRO stage {partitions['stage']} makes",
            "compile the spec again",
            spec_path=f"{stage.optimization}.optimizer.name",
        )
    offload = partitions.get("offload_optimizer", {}).get("device", "none")
    optimizer = optimizer_of(parameters, settings, on_cpu=offload == "cpu")
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=config)
    if engine.zero_optimization_partition_weights():
        # Read as weights, not called as a module, and in a validation first where no term asks for logits.
        for parameter in objective.head_terms.student.linear.parameters():
            deepspeed.zero.register_external_parameter(objective.head_terms, parameter)
    return engine


def optimizer_of(parameters: list[nn.Parameter], settings: TrainSettings, on_cpu: bool) -> Any:
    chosen = settings.optimizer
    if chosen.name == "adafactor":
        from transformers import Adafactor

        return Adafactor(
            parameters,
            lr=settings.learning_rate,
            eps=(1e-30, 1e-3),
            scale_parameter=False,
            relative_step=False,
            warmup_init=False,
            weight_decay=chosen.weight_decay,
        )
    arguments: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": chosen.betas,
        "eps": chosen.eps,
        "weight_decay": chosen.weight_decay,
    }
    if on_cpu:
        return cpu_adam(parameters, **arguments)
    return torch.optim.AdamW(parameters, fused=parameters[0].is_cuda, **arguments)


_LINEAR = nn.functional.linear  # as torch has it


def stop_engine(engine: Any) -> None:
    """Destroy an engine. ZeRO 3 leaves its own linear function in place of torch's, which sums in another order: what
    the process trains next would differ from what another process trains."""
    engine.destroy()
    nn.functional.linear = _LINEAR


def backward(engine: Any, share: Tensor, last: bool) -> None:
    """`share`: what one micro-batch contributes to the loss of the whole step."""
    engine.set_gradient_accumulation_boundary(is_boundary=last)
    engine.backward(share, scale_wrt_gas=False)


def set_learning_rate(engine: Any, value: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = value


def gradient_norm(engine: Any) -> float | None:
    """The global gradient norm of the last step; None where the engine does not compute one, and of a step that fp16
    skipped because its gradients overflowed."""
    norm = engine.get_global_grad_norm()
    return None if norm is None or not math.isfinite(norm) else float(norm)


def whole_parameters(engine: Any) -> AbstractContextManager[Any]:
    """Within it, the parameters of a ZeRO-3 model are whole on every rank; elsewhere nothing happens."""
    if not engine.zero_optimization_partition_weights():
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(list(engine.module.parameters()))
    return gathered
