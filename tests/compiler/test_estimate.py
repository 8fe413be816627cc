"""Memory of a training: states to the byte, ZeRO stages and micro-batches that fit, and why."""

import pytest

from distilc.compiler.estimates.memory import (
    GIB,
    choose,
    choose_micro_batch_tokens,
    memory_table,
    place,
)
from distilc.compiler.estimates.reasons import placement_reason, zero_reason
from distilc.compiler.estimates.workload import Teaching, Workload, step_tokens
from distilc.compiler.resolve.model_config import architecture_of

BART = architecture_of({"model_type": "bart"})
STUDENT = architecture_of({"model_type": "bart", "decoder_layers": 3})
FROZEN = ("encoder", "embeddings", "positions")

# BART-large by hand: attention (4 d^2 + 4 d) and its norm (2 d), two such in a decoder layer, feed-forward
# (2 d f + f + d) and its norm; embeddings 50265 d; two tables of 1026 positions; two embedding norms.
D, F = 1024, 4096
ATTENTION, FEED_FORWARD = 4 * D * D + 4 * D + 2 * D, 2 * D * F + F + D + 2 * D
DECODER_LAYER, ENCODER_LAYER = 2 * ATTENTION + FEED_FORWARD, ATTENTION + FEED_FORWARD
OUTSIDE = 50265 * D + 2 * 1026 * D + 2 * 2 * D


def choose_zero(load, micro_batch_tokens=None):
    """The ZeRO stage that a load runs at."""
    return choose(load, "auto", micro_batch_tokens)[1]


def load(**changes) -> Workload:
    facts = {
        "architecture": BART, "freeze": (), "precision": "fp32", "optimizer": "adamw", "offload": "none", "world": 8,
        "per_node": 8, "device": "cuda", "memory_gb": 80.0,
    }  # fmt: skip
    return Workload(**{**facts, **changes})


def distillation(**changes) -> Workload:
    """BART-large 12-12 -> 12-3 in bf16 with all terms on the decoder, its encoder shared."""
    teaching = Teaching(architecture=BART, needs=frozenset({"logits", "hidden"}), shared_encoder=True)
    facts = {
        "architecture": STUDENT, "freeze": FROZEN, "precision": "bf16", "lengths": (1024, 60), "teaching": teaching,
    }  # fmt: skip
    return load(**{**facts, **changes})


@pytest.mark.parametrize(
    ("precision", "zero", "bytes_a_parameter"),
    [
        # weights, gradients, master weights + moments; an eighth where they are shared
        ("fp32", 0, (4, 4, 8)),
        ("fp32", 1, (4, 4, 12 / 8)),
        ("fp32", 2, (4, 4 / 8, 12 / 8)),
        ("fp32", 3, (4 / 8, 4 / 8, 12 / 8)),
        ("bf16", 1, (2, 4 + 2, 12 / 8)),
        ("bf16", 2, (2, 4 / 8, 12 / 8)),
        ("bf16", 3, (2 / 8, 4 / 8, 12 / 8)),
        ("fp16", 1, (2, 2, 12 / 8)),
        ("fp16", 2, (2, 2 / 8, 12 / 8)),
    ],
)
def test_states(precision, zero, bytes_a_parameter):
    parameters = OUTSIDE + 12 * (ENCODER_LAYER + DECODER_LAYER)
    table = memory_table(load(precision=precision), zero, 1)
    expected = [parameters * size for size in bytes_a_parameter]
    assert [table.weights, table.gradients, table.optimizer] == pytest.approx(expected, abs=1)


def test_frozen_parameters_have_neither_gradients_nor_moments():
    table = memory_table(load(architecture=STUDENT, freeze=FROZEN), 0, 4096)
    trained = 3 * DECODER_LAYER + 2 * D  # the decoder and its embedding norm
    assert table.weights == 4 * (OUTSIDE + 12 * ENCODER_LAYER + 3 * DECODER_LAYER)
    assert (table.gradients, table.optimizer) == (4 * trained, 8 * trained)
    assert table.activations < memory_table(load(architecture=STUDENT), 0, 4096).activations


def test_adafactor_keeps_one_moment_and_only_where_there_are_no_matrices():
    assert memory_table(load(optimizer="adafactor"), 0, 1).optimizer == 0
    assert memory_table(load(optimizer="adafactor"), 1, 1).optimizer == BART.parameters * 8 // 8


def test_a_teacher_is_there_once_whole_and_without_the_encoder_that_it_shares():
    outside_the_encoder = OUTSIDE + 12 * DECODER_LAYER
    for zero in (1, 2, 3):
        assert memory_table(distillation(), zero, 1).teacher == 2 * outside_the_encoder
    teaching = Teaching(architecture=BART, needs=frozenset({"logits"}), shared_encoder=False)
    assert memory_table(distillation(teaching=teaching), 1, 1).teacher == 2 * BART.parameters
    assert memory_table(load(), 0, 1).teacher == 0


def test_a_sharded_teacher_is_a_share_and_what_is_gathered_at_a_time():
    outside_the_encoder = OUTSIDE + 12 * DECODER_LAYER
    gathered = 50_000_000 + 50265 * D
    table = memory_table(distillation(shard_teacher=True), 1, 1)
    assert table.teacher == 2 * (outside_the_encoder // 8 + gathered)
    of_the_host = distillation(shard_teacher=True, offload="parameters")
    assert memory_table(of_the_host, 3, 1).teacher == 2 * gathered


def test_a_teacher_is_sharded_where_the_whole_one_does_not_fit():
    large = architecture_of({"model_type": "t5", "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24,
                             "feed_forward_proj": "gated-gelu", "vocab_size": 32128})  # fmt: skip
    teaching = Teaching(architecture=large, needs=frozenset({"logits"}), shared_encoder=False)
    student = architecture_of({"model_type": "t5"})
    of_large = {"architecture": student, "freeze": (), "teaching": teaching}
    assert large.parameters * 2 / GIB == pytest.approx(20.5, abs=0.05)
    roomy, tight = (distillation(**of_large, memory_gb=size) for size in (40.0, 16.0))
    assert not place(roomy).shard_teacher
    placed = place(tight)
    assert placed.shard_teacher and placed.fits and not placed.checkpointing
    assert not place(distillation(**of_large, memory_gb=16.0, shard_teacher=False)).fits
    assert place(distillation(**of_large, memory_gb=40.0, shard_teacher=True)).shard_teacher
    for alone in ("auto", True):  # on a single device there is nothing to shard across, but for the host
        one = {**of_large, "world": 1, "per_node": 1, "memory_gb": 16.0, "shard_teacher": alone}
        assert not place(distillation(**one)).shard_teacher
        assert place(distillation(**one, offload="parameters")).fits
    assert not place(load(shard_teacher=True)).shard_teacher  # there is no teacher
    whole, shared = memory_table(roomy, 1, 1).teacher / GIB, placed.table.teacher / GIB
    assert placement_reason(tight, "auto").endswith(
        f"; teacher sharded over 8 devices, {shared:.1f} GiB instead of {whole:.1f}: it does not fit as a whole "
        "beside the student"
    )
    assert "teacher" not in placement_reason(roomy, "auto")


def test_activations_are_computed_again_where_nothing_else_fits():
    of_long_rows = {"lengths": (2048, 2048), "world": 1, "per_node": 1}
    roomy, tight = (load(**of_long_rows, memory_gb=size) for size in (14.0, 11.0))
    assert (place(roomy).checkpointing, place(roomy).fits) == (False, True)
    assert (place(tight).checkpointing, place(tight).fits) == (True, True)
    forbidden = load(**of_long_rows, memory_gb=11.0, checkpointing=False)
    assert (place(forbidden).checkpointing, place(forbidden).fits) == (False, False)
    assert place(load(checkpointing=True)).checkpointing
    assert placement_reason(tight, "auto").endswith("; checkpointing on: without, not even 4,096 tokens at a time fit")
    assert placement_reason(forbidden, 1) == "stage 1: the site says so; checkpointing off: the site says so"
    more = place(load(memory_gb=24.0, checkpointing=True)).micro_batch_tokens
    assert more > place(load(memory_gb=24.0)).micro_batch_tokens


def test_a_micro_batch_has_no_more_tokens_than_a_step():
    small = load(lengths=(400, 100), step_tokens=1024)
    assert memory_table(small, 0, 4096) == memory_table(load(lengths=(400, 100)), 0, 1024)
    assert memory_table(small, 0, 512) == memory_table(load(lengths=(400, 100)), 0, 512)
    assert step_tokens(None, 1024, (400, 100)) == 1024
    assert step_tokens(None, 10, (400, 100)) == 500  # a row of the greatest length is not cut
    assert step_tokens(8, None, (400, 100)) == 4000


def test_offload_takes_states_off_the_device():
    assert memory_table(load(offload="optimizer"), 2, 1).optimizer == 0
    assert memory_table(load(offload="parameters"), 3, 1).weights == 0


def test_the_total_is_the_sum_of_its_parts():
    table = memory_table(distillation(), 2, 4096)
    assert all(size > 0 for size in table.parts().values())
    assert table.total == sum(table.parts().values())


def test_zero_is_the_lowest_that_fits():
    sizes = (80.0, 12.5, 11.0, 8.0, 1.0)
    chosen = [choose_zero(load(memory_gb=size)) for size in sizes]
    assert chosen[0] == 0 and len(set(chosen)) > 2
    for size, zero in zip(sizes[:-1], chosen, strict=False):
        fits = [memory_table(load(), stage, 4096).total <= 0.9 * size * GIB for stage in range(4)]
        if any(fits):
            assert zero == fits.index(True)


def test_where_nothing_fits_it_is_the_stage_that_needs_least():
    needs = [memory_table(load(), zero, 1024).total for zero in range(4)]
    assert choose_zero(load(memory_gb=1.0)) == needs.index(min(needs))


def test_zero_of_one_device_and_of_an_unknown_one():
    assert choose_zero(load(world=1, per_node=1, memory_gb=1.0)) == 0
    assert choose_zero(load(memory_gb=None)) == 0
    assert choose_zero(load(precision="bf16", memory_gb=None)) == 1
    assert choose_zero(load(offload="optimizer", world=1)) == 1
    assert choose_zero(load(offload="parameters")) == 3


def test_processes_on_a_cpu_share_its_memory():
    one = load(device="cpu", memory_gb=32.0, world=2, per_node=2)
    many = load(device="cpu", memory_gb=32.0, world=8, per_node=8)
    assert choose_zero(one) == 0
    assert choose_zero(many) > 0


def test_micro_batches():
    assert choose_micro_batch_tokens(load(device="cpu", memory_gb=500.0), 0) == 4096
    assert choose_micro_batch_tokens(load(memory_gb=None), 0) == 4096
    assert choose_micro_batch_tokens(load(memory_gb=1000.0), 0) == 65536
    tokens = choose_micro_batch_tokens(load(memory_gb=24.0), 0)
    assert 4096 < tokens < 65536 and tokens % 1024 == 0
    assert memory_table(load(), 0, tokens).total <= 0.9 * 24 * GIB < memory_table(load(), 0, tokens + 1024).total


def test_a_micro_batch_is_smaller_than_wanted_before_it_does_not_fit():
    tight = load(lengths=(500, 100), memory_gb=11.0)
    tokens = choose_micro_batch_tokens(tight, 0)
    assert 600 <= tokens < 4096
    assert memory_table(tight, 0, tokens).total <= 0.9 * 11 * GIB
    assert choose_micro_batch_tokens(load(lengths=(500, 100), memory_gb=1.0), 0) == 768  # a row cannot be cut


def test_what_the_site_fixes_stays():
    placed = place(load(memory_gb=1.0), 2, 512)
    assert (placed.zero, placed.micro_batch_tokens, placed.fits) == (2, 512, False)
    assert place(load(memory_gb=None)).fits is None


def test_the_reason_names_what_did_not_fit():
    assert zero_reason(load(), 2) == "stage 2: the site says so"
    assert zero_reason(load(), "auto") == "stage 0: the lowest, and it fits"
    assert "the memory of a device is not known" in zero_reason(load(memory_gb=None), "auto")
    assert "single device, nothing to shard across" in zero_reason(load(world=1), "auto")
    assert zero_reason(distillation(), "auto") == "stage 1: bf16 needs 1 or more, and it fits"
    tight = load(memory_gb=11.0)
    chosen = choose_zero(tight)
    assert chosen > 0
    needed = memory_table(tight, 0, 4096).total / GIB
    words = zero_reason(tight, "auto")
    assert words.startswith(f"stage {chosen}: 0 needs {needed:.1f} GiB") and words.endswith(
        "with 4,096 tokens at a time"
    )
    assert "none fits" in zero_reason(load(memory_gb=1.0), "auto")


def test_a_large_distillation_fits_where_people_run_it():
    """Table 5's KD of BART ran on cards of 11 GB, with half precision."""
    placed = place(distillation(world=1, per_node=1, memory_gb=11.0))
    assert placed.fits and placed.micro_batch_tokens >= 4096
    assert placed.table.states + placed.table.teacher < 2 * GIB
