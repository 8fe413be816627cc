"""Bytes on disk."""

from distilc.compiler.explain.forecast import checkpoint_bytes, label_bytes
from distilc.compiler.resolve.data_sizes import DataSize
from distilc.compiler.resolve.model_config import architecture_of

BART = architecture_of({"model_type": "bart"})


def test_checkpoints_are_the_best_and_two_to_go_on_from():
    freeze = ("encoder", "embeddings", "positions")
    assert checkpoint_bytes(BART, ()) == (4 + 2 * 12) * BART.parameters
    assert checkpoint_bytes(BART, freeze) == 4 * BART.parameters + 24 * BART.trainable(freeze)


def test_labels_grow_with_rows_and_lengths():
    short, long = (label_bytes(DataSize(1000, 0, tokens, "store")) for tokens in (20, 40))
    assert long - short == 1000 * 20 * 4
    assert label_bytes(DataSize(2000, 0, 20, "store")) == 2 * short
