"""The engine's config: exactly the known keys, and DeepSpeed reads from it what was meant."""

import pytest

from distilc.compiler.estimates.deepspeed_config import STAGE_3_LIVE_NUMBERS, deepspeed_config

KEYS = {
    "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "zero_allow_untested_optimizer",
    "zero_optimization", "bf16", "fp16", "gradient_clipping", "steps_per_print",
    "wall_clock_breakdown", "data_types",
}  # fmt: skip


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_keys_and_values(zero, precision):
    config = deepspeed_config(precision=precision, gradient_clipping=0.5, zero=zero, offload="none")
    assert set(config) == KEYS
    limits = {"stage3_max_live_parameters": STAGE_3_LIVE_NUMBERS, "stage3_max_reuse_distance": 0}
    assert config["zero_optimization"] == {"stage": zero, **(limits if zero == 3 else {})}
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (
        precision == "bf16",
        precision == "fp16",
    )
    assert config["data_types"] == {"grad_accum_dtype": "fp32" if precision == "bf16" else None}
    assert config["gradient_clipping"] == 0.5


def test_no_clipping_is_zero():
    assert (
        deepspeed_config(precision="fp32", gradient_clipping=None, zero=0, offload="none")[
            "gradient_clipping"
        ]
        == 0.0
    )


@pytest.mark.parametrize(
    ("offload", "keys"),
    [
        ("none", set()),
        ("optimizer", {"offload_optimizer"}),
        ("parameters", {"offload_optimizer", "offload_param"}),
    ],
)
def test_offload(offload, keys):
    config = deepspeed_config(precision="bf16", gradient_clipping=1.0, zero=3, offload=offload)
    limits = {"stage3_max_live_parameters", "stage3_max_reuse_distance"}
    assert set(config["zero_optimization"]) - limits == {"stage"} | keys
    for key in keys:
        assert config["zero_optimization"][key] == {"device": "cpu", "pin_memory": True}
