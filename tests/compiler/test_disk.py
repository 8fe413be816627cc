"""Bytes on disk."""

import pytest

from distilc.compiler.architecture import architecture_of
from distilc.compiler.data_sizes import PUBLISHED, TOKENS_PER_WORD, DataSize
from distilc.compiler.disk import checkpoint_bytes, label_bytes, signal_bytes
from distilc.compiler.workload import Teaching

BART = architecture_of({"model_type": "bart"})
KD = Teaching(architecture=BART, terms=frozenset({"logits", "hidden"}), shared_encoder=True)


def xsum() -> DataSize:
    rows, source, target = PUBLISHED["EdinburghNLP/xsum", None]
    return DataSize(rows, source * TOKENS_PER_WORD, target * TOKENS_PER_WORD, "published")


def test_the_states_of_bart_on_xsum():
    """The published order: about 194 GB for the encoder, 34 GB for the decoder side."""
    found = signal_bytes(BART, KD, {"decoder": [3, 7, 11]}, xsum(), shared_encoder=True, width=2)
    assert found.encoder / 1e9 == pytest.approx(194, abs=1)
    assert found.decoder / 1e9 == pytest.approx(34, abs=0.5)
    in_fp32 = signal_bytes(BART, KD, {"decoder": [3, 7, 11]}, xsum(), shared_encoder=True, width=4)
    assert in_fp32.encoder == pytest.approx(2 * found.encoder, abs=1)


def test_the_last_state_is_kept_once():
    def decoder_states(*phi: int) -> float:
        size = DataSize(1, 0, 1, "store")
        return signal_bytes(BART, KD, {"decoder": phi}, size, shared_encoder=True, width=2).decoder / (1024 * 2)

    assert decoder_states() == decoder_states(11) == 1
    assert decoder_states(3, 7, 11) == 3
    assert decoder_states(3, 7, 10) == 4
    assert decoder_states(11, 11, 11) == 1


def test_an_encoder_that_is_trained_needs_what_phi_supervises():
    size = DataSize(10, 100, 20, "store")
    own = signal_bytes(BART, KD, {"encoder": [1, 3, 11]}, size, shared_encoder=False, width=2)
    assert own.encoder == 10 * 100 * 3 * 1024 * 2
    assert signal_bytes(BART, KD, {"encoder": None}, size, shared_encoder=False, width=2).encoder == 0


def test_without_a_term_that_needs_the_teacher_there_is_its_encoder_alone():
    found = signal_bytes(BART, None, {}, DataSize(10, 100, 20, "store"), shared_encoder=True, width=2)
    assert (found.encoder, found.decoder) == (10 * 100 * 1024 * 2, 0)


def test_checkpoints_are_the_best_and_two_to_go_on_from():
    freeze = ("encoder", "embeddings", "positions")
    assert checkpoint_bytes(BART, ()) == (4 + 2 * 12) * BART.parameters
    assert checkpoint_bytes(BART, freeze) == 4 * BART.parameters + 24 * BART.trainable(freeze)


def test_labels_grow_with_rows_and_lengths():
    short, long = (label_bytes(DataSize(1000, 0, tokens, "store")) for tokens in (20, 40))
    assert long - short == 1000 * 20 * 4
    assert label_bytes(DataSize(2000, 0, 20, "store")) == 2 * short
