"""The DeepSpeed engine's config of a training stage.

DeepSpeed takes a misspelt key without a word, so the keys that may be there are listed here and in
`schema/plan.schema.json`. Batch arithmetic is not DeepSpeed's: a batch is an optimizer step over all devices,
and the training loop says where a step ends; hence the two ones.
"""

from __future__ import annotations

from typing import Any, Literal

NEVER = 1_000_000_000  # steps between DeepSpeed's own log lines
# Weights that ZeRO 3 keeps gathered beside those of the module at work. DeepSpeed's own limit of a billion, with
# its habit of keeping what is needed again soon, leaves the models of this project whole on every device.
STAGE_3_LIVE_NUMBERS = 50_000_000


def deepspeed_config(
    *,
    precision: Literal["fp32", "bf16", "fp16"],
    gradient_clipping: float | None,
    zero: int,
    offload: Literal["none", "optimizer", "parameters"],
) -> dict[str, Any]:
    """The config for a precision, a ZeRO stage 0-3 and what is kept in the host's memory.

    With `offload` the runtime steps with DeepSpeed's CPU Adam: the engine refuses torch's AdamW there.
    `gradient_clipping` None is 0, which is DeepSpeed's word for none.
    """
    partitions: dict[str, Any] = {"stage": zero}
    if zero == 3:
        partitions["stage3_max_live_parameters"] = STAGE_3_LIVE_NUMBERS
        partitions["stage3_max_reuse_distance"] = 0
    if offload != "none":
        partitions["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if offload == "parameters":
        partitions["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": partitions,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        # Sums over micro-batches would otherwise be kept in bf16.
        "data_types": {"grad_accum_dtype": "fp32" if precision == "bf16" else None},
        "gradient_clipping": float(gradient_clipping or 0.0),
        "steps_per_print": NEVER,
        "wall_clock_breakdown": False,
    }


def teacher_config(
    precision: Literal["fp32", "bf16", "fp16"], offload: Literal["none", "optimizer", "parameters"]
) -> dict[str, Any]:
    """The config of a teacher that is sharded: ZeRO 3 without an optimizer. Where the student's parameters are kept
    in the host's memory, so are the teacher's."""
    config = deepspeed_config(precision=precision, gradient_clipping=None, zero=3, offload=offload)
    config["zero_optimization"].pop("offload_optimizer", None)
    return config
