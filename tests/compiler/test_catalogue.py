"""What is known of models that are not here, against the config.json files of those that are."""

from pathlib import Path

import pytest

from distilc.compiler.extensions.families import tasks_of
from distilc.compiler.resolve.catalogue import CATALOGUE, catalogued
from distilc.compiler.resolve.model_config import architecture_of, read_config

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
HERE = [name for name in CATALOGUE if (MODELS / name).is_dir()] or ["facebook/bart-large"]


class Recorded(dict):
    """A config that remembers which of its fields were asked for."""

    def __init__(self, config):
        super().__init__(config)
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_fact_is_read_by_something(name):
    config = Recorded(CATALOGUE[name])
    for task in tasks_of(config["model_type"]):
        assert architecture_of(config, task).parameters > 1e7
    assert set(config) - config.asked <= {"architectures"}  # which head the checkpoint has


@pytest.mark.parametrize("name", HERE)
def test_facts_are_those_of_the_real_config(name):
    if not (MODELS / name).is_dir():
        pytest.skip(f"{MODELS / name} is not there")
    known, real = CATALOGUE[name], read_config(MODELS / name)
    assert {field: real.get(field) for field in known} == dict(known)
    for task in tasks_of(real["model_type"]):
        ours, theirs = architecture_of(known, task), architecture_of(real, task)
        assert ours.parameters == theirs.parameters
        assert ours.changes(theirs) == theirs.changes(theirs)


def test_one_model_under_two_names_has_one_shape():
    for one, other in (
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
        ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
        ("roberta-base", "FacebookAI/roberta-base"),
    ):
        assert catalogued(one) == catalogued(other) is not None


@pytest.mark.parametrize(
    ("name", "task", "parameters"),
    [
        # The counts that transformers itself reports of these checkpoints.
        ("FacebookAI/roberta-base", "masked-lm", 124_697_433),
        ("google-bert/bert-base-uncased", "masked-lm", 109_514_298),
        ("facebook/mbart-large-cc25", "translation", 610_851_840),
    ],
)
def test_counts_of_well_known_models(name, task, parameters):
    assert architecture_of(CATALOGUE[name], task).parameters == parameters


def test_what_nobody_knows():
    assert catalogued("org/unheard-of") is None
