"""Memory of a training: states to the byte, ZeRO and micro-batches that fit."""

import pytest

from distilc.compiler.architecture import architecture_of
from distilc.compiler.estimate import (
    GIB,
    Workload,
    choose_micro_batch_tokens,
    choose_zero,
    memory_table,
    token_flops,
)

BART = architecture_of({"model_type": "bart"})


def load(**changes) -> Workload:
    facts = {
        "architecture": BART, "freeze": (), "precision": "fp32", "optimizer": "adamw", "offload": "none", "world": 8,
        "per_node": 8, "device": "cuda", "memory_gb": 80.0,
    }  # fmt: skip
    return Workload(**{**facts, **changes})


@pytest.mark.parametrize(
    ("zero", "bytes_a_parameter"), [(0, (4, 4, 8)), (1, (4, 4, 1)), (2, (4, 0.5, 1)), (3, (0.5, 0.5, 1))]
)
def test_states_in_fp32(zero, bytes_a_parameter):
    table = memory_table(load(), zero, 1)
    expected = [BART.parameters * size for size in bytes_a_parameter]
    assert [table.weights, table.gradients, table.optimizer] == pytest.approx(expected, abs=1)


def test_states_in_bf16_have_a_master_copy():
    table = memory_table(load(precision="bf16"), 0, 1)
    assert (table.weights, table.gradients) == (2 * BART.parameters, 2 * BART.parameters)
    assert table.optimizer == 12 * BART.parameters


def test_frozen_parameters_have_neither_gradients_nor_moments():
    freeze = ("encoder", "embeddings", "positions")
    table = memory_table(load(freeze=freeze), 0, 1)
    assert table.weights == 4 * BART.parameters
    assert table.gradients == 4 * BART.trainable(freeze)
    assert table.activations < memory_table(load(), 0, 1).activations


def test_offload_takes_states_off_the_device():
    assert memory_table(load(offload="optimizer"), 2, 1).optimizer == 0
    assert memory_table(load(offload="parameters"), 3, 1).weights == 0


def test_zero_is_the_lowest_that_fits():
    chosen = [choose_zero(load(memory_gb=size)) for size in (80.0, 9.8, 6.9, 5.0, 1.0)]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (0, 3)
    for size, zero in zip((80.0, 9.8, 6.9, 5.0), chosen, strict=False):
        if zero < 3:
            assert memory_table(load(), zero, 4096).total <= 0.9 * size * GIB
        if zero > 0:
            assert memory_table(load(), zero - 1, 4096).total > 0.9 * size * GIB


def test_zero_of_one_device_and_of_an_unknown_one():
    assert choose_zero(load(world=1, per_node=1, memory_gb=1.0)) == 0
    assert choose_zero(load(memory_gb=None)) == 0
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
    assert choose_micro_batch_tokens(load(memory_gb=1.0), 0) == 4096
    assert choose_micro_batch_tokens(load(memory_gb=1000.0), 0) == 65536
    tokens = choose_micro_batch_tokens(load(memory_gb=24.0), 0)
    assert 4096 < tokens < 65536 and tokens % 1024 == 0
    assert memory_table(load(), 0, tokens).total <= 0.9 * 24 * GIB < memory_table(load(), 0, tokens + 1024).total


def test_operations_of_a_token():
    # half of 6 x (weights of both stacks and the head): every second token is a target
    weights = BART.encoder_layers * BART.encoder_layer() + BART.decoder_layers * BART.decoder_layer()
    assert token_flops(BART, ()) == 3 * (weights + BART.vocab_size * BART.d_model)
    assert token_flops(BART, ("encoder",)) < token_flops(BART, ())
