"""Steps, tokens and operations, against arithmetic done by hand."""

import pytest

from distilc.compiler.estimates.effort import forward_flops, label_effort, row_flops, training_effort, training_steps
from distilc.compiler.estimates.workload import Teaching
from distilc.compiler.resolve.architecture import decoder_layer, encoder_layer
from distilc.compiler.resolve.data_sizes import DataSize
from distilc.compiler.resolve.model_config import architecture_of

BART = architecture_of({"model_type": "bart"})
STUDENT = architecture_of({"model_type": "bart", "decoder_layers": 3})
FROZEN = ("encoder", "embeddings", "positions")
D = 1024
HEAD = 2 * 50265 * D
CROSS = 2 * 2 * D * D  # keys and values of a source token in one decoder layer
DECODER = 2 * decoder_layer(BART) - CROSS
ENCODER = 2 * encoder_layer(BART)


def settings(unit="examples", size=10, **stopping):
    return {
        "batch": {"unit": unit, "size": size},
        "stopping": {"max_epochs": None, "max_steps": None, **stopping},
        "freeze": [],
    }


def test_a_step_has_a_row_or_more():
    size = DataSize(rows=30, source_tokens=50.0, target_tokens=10.0, origin="counted")
    assert training_steps(settings("tokens", 10, max_epochs=2), size) == 60
    assert training_steps(settings("tokens", 600, max_epochs=2), size) == 6
    assert training_steps(settings("tokens", 600, max_epochs=2, max_steps=5), size) == 5
    assert training_steps(settings("tokens", 600), size) is None


def test_forward():
    each = forward_flops(BART)
    assert (each.encoder, each.cross) == (12 * ENCODER, 12 * CROSS)
    assert (each.decoder, each.head) == (12 * DECODER, HEAD)


def test_all_trained_is_three_forwards():
    one = 100 * (12 * ENCODER + 3 * CROSS) + 20 * (3 * DECODER + HEAD)
    assert row_flops(STUDENT, (), None, 100, 20) == 3 * one


def test_what_is_frozen_has_no_backward_of_its_own():
    expected = 100 * (12 * ENCODER + 2 * 3 * CROSS) + 20 * (3 * 3 * DECODER + 2 * HEAD)
    assert row_flops(STUDENT, FROZEN, None, 100, 20) == expected


def test_a_teacher_runs_forward_and_a_shared_encoder_once():
    alone = row_flops(STUDENT, FROZEN, None, 100, 20)
    decoder = 100 * 12 * CROSS + 20 * (12 * DECODER + HEAD)
    for shared, more in ((True, decoder), (False, decoder + 100 * 12 * ENCODER)):
        teaching = Teaching(architecture=BART, needs=frozenset({"logits"}), shared_encoder=shared)
        assert row_flops(STUDENT, FROZEN, teaching, 100, 20) == alone + more


def test_models_without_a_decoder():
    masked = architecture_of({"model_type": "bert"}, "masked-lm")
    each = forward_flops(masked)
    assert (each.cross, each.decoder) == (0, 0)
    assert row_flops(masked, (), None, 100, 0) == 3 * 100 * (each.encoder + 2 * 30522 * 768)
    classifier = architecture_of({"model_type": "bert"}, "classification")
    assert row_flops(classifier, (), None, 100, 0) == 3 * 100 * each.encoder


def test_a_classifier_with_a_decoder_reads_its_input_twice():
    classifier = architecture_of({"model_type": "bart"}, "classification")
    assert row_flops(classifier, (), None, 100, 0) == 3 * 100 * 12 * (ENCODER + CROSS + DECODER)


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        (settings(max_epochs=2.0), 22),  # 105 rows in batches of 10 are 11 steps
        (settings(max_epochs=0.5), 6),
        (settings(max_epochs=2.0, max_steps=7), 7),
        (settings(max_steps=40), 40),
        (settings("tokens", 1200, max_epochs=1.0), 11),  # 105 rows of 120 tokens
    ],
)
def test_steps(chosen, steps):
    size = DataSize(105, 100, 20, "store")
    effort = training_effort(chosen, STUDENT, None, size)
    assert effort.steps == steps
    assert effort.tokens == pytest.approx(steps / 11 * 105 * 120, abs=1)
    assert effort.flops == pytest.approx(steps / 11 * 105 * row_flops(STUDENT, (), None, 100, 20))


def test_a_training_that_ends_by_time_alone_is_unknown():
    assert training_effort(settings(), STUDENT, None, DataSize(105, 100, 20, "store")) is None


def test_labels_cost_the_decoder_for_every_beam():
    size = DataSize(10, 100, 20, "store")
    chosen = {"generation": {"beams": 6}, "max_source_tokens": 50}
    encoder, decoder = 12 * (ENCODER + CROSS), 12 * DECODER + HEAD
    assert label_effort(chosen, BART, size).flops == 10 * (50 * encoder + 20 * 6 * decoder)
    chosen["generation"] = {"beams": None}
    assert label_effort(chosen, BART, size).flops == 10 * (50 * encoder + 20 * 4 * decoder)
