"""Both engines give the same texts and scores; where they would not, the reference engine writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.generation.choose import open_engine
from distilc.runtime.generation.conversion import convert, vocabulary_of
from distilc.runtime.generation.engine import Engine, Hypothesis, written_by
from distilc.runtime.models.load import load_tokenizer, read_config
from distilc.runtime.plan.settings import GenerationSettings, SamplingSettings

FAST = GenerationSettings(
    engine="ctranslate2", beams=None, length_penalty=None, min_length=None, max_length=None,
    no_repeat_ngram=None, early_stopping=None, compute_type="fp32",
)  # fmt: skip
BEAMS = replace(FAST, beams=4, early_stopping=True, max_length=14)
FAMILIES = ["bart", "mbart", "pegasus", "marian", "t5"]
Made = tuple[Path, Path, list[Any], Any]  # the model, its conversion, sources, the labels of one of them


@pytest.fixture(scope="module")
def made(tiny_model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """family -> a model of random weights, with a decoder deeper than its encoder."""
    found: dict[str, Made] = {}

    def make(family: str) -> Made:
        if family not in found:
            folder = tiny_model_folder(family, encoder_layers=2, decoder_layers=3)
            converted = tmp_path_factory.mktemp(f"converted-{family}")
            assert convert(folder, converted, "fp32") is None
            tokenizer = load_tokenizer(folder)
            generator = np.random.default_rng(3)
            ids = [generator.integers(4, 90, length) for length in generator.integers(3, 20, 24)]
            sources = [np.append(row, tokenizer.eos_token_id).astype(np.int32) for row in ids]
            language = tokenizer.convert_tokens_to_ids("ro_RO") if family == "mbart" else 9
            labels = np.asarray([5, 6, tokenizer.eos_token_id, language], np.int32)
            found[family] = folder, converted, sources, labels if family == "mbart" else None
        return found[family]

    return make


def write(engine: Engine, sources: Sequence[Any], ids: Sequence[int] | None = None) -> list[Sequence[Hypothesis]]:
    found: dict[int, Sequence[Hypothesis]] = {}
    engine.generate(
        sources, lambda positions, hypotheses: found.update(zip(positions, hypotheses, strict=True)), ids=ids
    )
    assert len(found) == len(sources)
    return [found[i] for i in range(len(sources))]


def both(made: Made, settings: GenerationSettings) -> tuple[list[Sequence[Hypothesis]], list[Sequence[Hypothesis]]]:
    folder, converted, sources, labels = made
    fast = open_engine(settings, folder, converted, precision="fp32", device="cpu", labels=labels, num_threads=1)
    assert fast.name == "ctranslate2" and fast.note == ""
    plain = replace(settings, engine="transformers", compute_type=None)
    reference = open_engine(plain, folder, precision="fp32", device="cpu", labels=labels)
    assert reference.name == "transformers"
    return write(fast, sources), write(reference, sources)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "settings",
    [
        replace(FAST, max_length=14),
        BEAMS,
        replace(BEAMS, length_penalty=0.6, n_best=3),
        replace(BEAMS, beams=3, length_penalty=2.0, max_length=24),
        replace(BEAMS, length_penalty=0.0, early_stopping=False),
    ],
    ids=["greedy", "beams", "n-best", "long", "no-penalty"],
)
def test_parity(made: Callable[[str], Made], family: str, settings: GenerationSettings) -> None:
    fast, reference = both(made(family), settings)
    assert [[one.text for one in found] for found in fast] == [[one.text for one in found] for found in reference]
    assert [[one.num_tokens for one in found] for found in fast] == [
        [one.num_tokens for one in found] for found in reference
    ]
    scores = [np.asarray([one.score for found in side for one in found]) for side in (fast, reference)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    assert all(len(found) == (settings.n_best or 1) for found in fast)


def test_the_score_is_what_it_is_said_to_be(made: Callable[[str], Made]) -> None:
    """From plain forwards in float64: the forced end at the limit counts in the length and not in the sum."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    folder, converted, sources, _ = made("bart")
    settings = replace(FAST, max_length=6, length_penalty=0.5)
    engine = open_engine(settings, folder, converted, precision="fp32", device="cpu", num_threads=1)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float64).eval()
    end = model.generation_config.eos_token_id
    forced = 0
    for source, (best,) in zip(sources[:8], write(engine, sources[:8]), strict=True):
        ids, total = [model.generation_config.decoder_start_token_id], 0.0
        while len(ids) < 6 and (len(ids) == 1 or ids[-1] != end):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([source.tolist()]), decoder_input_ids=torch.tensor([ids])).logits
            scores = logits[0, -1].log_softmax(-1)
            at_limit = len(ids) == 5
            forced += at_limit
            ids.append(end if at_limit else int(scores.argmax()))
            total += 0.0 if at_limit else float(scores[ids[-1]])
        assert best.num_tokens == len(ids) - 1
        assert best.score == pytest.approx(total / (len(ids) - 1) ** 0.5, abs=1e-4)
    assert forced > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"early_stopping": False}, "early_stopping"),
        ({"no_repeat_ngram": 2}, "no_repeat_ngram: 2"),
        ({"min_length": 5}, "min_length: 5"),
    ],
)
def test_what_would_differ_is_written_by_the_reference(
    made: Callable[[str], Made], changes: dict[str, Any], said: str
) -> None:
    folder, converted, sources, _ = made("marian")
    settings = replace(BEAMS, **changes)
    engine = open_engine(settings, folder, converted, precision="fp32", device="cpu", num_threads=1)
    assert engine.name == "transformers" and said in engine.note
    assert written_by(engine) == f"; by transformers: {engine.note}"
    named = open_engine(replace(settings, named=True), folder, converted, precision="fp32", device="cpu", num_threads=1)
    assert named.name == "ctranslate2" and written_by(named) == "" and len(write(named, sources[:3])) == 3


@pytest.mark.parametrize("settings", [FAST, replace(BEAMS, engine="transformers")])
def test_texts_longer_than_the_model_has_positions(
    made: Callable[[str], Made], settings: GenerationSettings
) -> None:
    folder, converted, _, _ = made("marian")
    positions = read_config(folder).max_position_embeddings
    with pytest.raises(Failure, match=f"{positions + 1} tokens is asked for, and the model has {positions} pos") as told:
        open_engine(replace(settings, max_length=positions + 1), folder, converted, precision="fp32", device="cpu")
    assert told.value.code == "R320"
    open_engine(replace(settings, max_length=positions), folder, converted, precision="fp32", device="cpu")


def test_a_model_without_a_table_of_positions_writes_as_much_as_is_asked_for(made: Callable[[str], Made]) -> None:
    folder, converted, _, _ = made("t5")
    open_engine(replace(FAST, max_length=5000), folder, converted, precision="fp32", device="cpu")


def test_an_engine_asked_for_by_name_that_cannot_do_it(made: Callable[[str], Made]) -> None:
    folder, converted, _, _ = made("marian")
    sampling = SamplingSettings(top_k=None, top_p=1.0, temperature=1.0, seed=1)
    settings = replace(FAST, named=True, sampling=sampling)
    with pytest.raises(Failure, match="sampling") as failure:
        open_engine(settings, folder, converted, precision="fp32", device="cpu", num_threads=1)
    assert failure.value.code == "R321"
    with pytest.raises(Failure) as failure:
        open_engine(FAST, folder, converted / "away", precision="fp32", device="cpu", num_threads=1)
    assert failure.value.code == "R322" and failure.value.hint.endswith(f"rm -r {converted / 'away'}")


def test_draws_depend_on_the_seed_and_the_example_alone(made: Callable[[str], Made]) -> None:
    folder, _, sources, _ = made("pegasus")
    sampling = SamplingSettings(top_k=20, top_p=0.9, temperature=0.8, seed=1)
    settings = replace(FAST, engine="transformers", compute_type=None, sampling=sampling, n_best=3, max_length=10)
    engine = open_engine(settings, folder, precision="fp32", device="cpu")
    whole = write(engine, sources[:6])
    half = write(engine, [sources[i] for i in (4, 1, 5)], ids=[4, 1, 5])
    assert [[one.text for one in found] for found in half] == [[one.text for one in whole[i]] for i in (4, 1, 5)]
    assert all(found[0].score >= found[1].score >= found[2].score for found in whole)
    assert len({one.text for found in whole for one in found}) > 12
    other = replace(settings, sampling=replace(sampling, seed=2))
    assert write(open_engine(other, folder, precision="fp32", device="cpu"), sources[:6]) != whole


def test_a_conversion_is_whole_and_says_what_it_cannot_be(
    tiny_model_folder: Any, made: Callable[[str], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, converted, _, _ = made("t5")
    tokens = vocabulary_of(converted)
    assert len(tokens) == len(set(tokens)) == 160 and tokens[1] == "</s>"
    assert (converted / "generation_config.json").is_file() and (converted / "tokenizer.json").is_file()
    untied = tiny_model_folder("t5", tie_word_embeddings=False)  # a v1.1: no scale before a head of its own
    (tmp_path / "untied").mkdir()
    assert convert(untied, tmp_path / "untied", "int8") is None
    # A loader that makes another model of it is found out.
    monkeypatch.setattr("distilc.runtime.generation.conversion.head_scale", lambda model: 3.0)
    (tmp_path / "wrong").mkdir()
    reason = convert(folder, tmp_path / "wrong", "fp32")
    assert reason is not None and "log-probabilities" in reason
    assert [file.name for file in (tmp_path / "wrong").iterdir()] == ["conversion.json"]
    engine = open_engine(FAST, folder, tmp_path / "wrong", precision="fp32", device="cpu", num_threads=1)
    assert engine.name == "transformers" and "log-probabilities" in engine.note
