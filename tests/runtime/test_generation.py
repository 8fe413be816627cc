"""The reference engine: order, settings over the checkpoint's own, every family, a decoder deeper than its encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.generation.ends import Ends
from distilc.runtime.generation.engine import Hypothesis, generate_texts
from distilc.runtime.generation.search import answer_in_language, limit_of, merged_config
from distilc.runtime.generation.transformers_engine import TransformersEngine, generate_ids
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.plan.settings import GenerationSettings

OWN = GenerationSettings(
    engine="transformers", beams=None, length_penalty=None, min_length=None, max_length=None,
    no_repeat_ngram=None, early_stopping=None,
)  # fmt: skip
FAMILIES = ["bart", "mbart", "pegasus", "marian", "t5"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("rows")
    generator = np.random.default_rng(3)
    lengths = generator.integers(3, 20, 12)
    text = {"id": "0", "source": "", "target": ""}
    write_rows(folder, "test.test", [(generator.integers(5, 60, length), [5, 1], text) for length in lengths])
    return Rows.open(folder, "test.test")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_texts_do_not_depend_on_batches_and_keep_their_order(
    tiny_model_folder: Any, rows: Rows, family: str, beams: int
) -> None:
    folder = tiny_model_folder(family)
    engine = TransformersEngine.open(replace(OWN, beams=beams, max_length=12), folder, precision="fp32", device="cpu")
    ids = [7, 2, 11, 0, 5]
    together = generate_texts(engine, rows, ids)
    alone = [generate_texts(engine, rows, [i])[0] for i in ids]
    assert together == alone
    found: dict[int, str] = {}

    def on_batch(positions: Sequence[int], hypotheses: Sequence[Sequence[Hypothesis]]) -> None:
        assert len(positions) <= 2
        found.update({i: best[0].text for i, best in zip(positions, hypotheses, strict=True)})

    engine.generate([rows.source(i) for i in ids], on_batch, batch_size=2)
    assert [found[i] for i in range(len(ids))] == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_deeper_than_its_encoder(tiny_model_folder: Any, rows: Rows, family: str) -> None:
    model = load_model(tiny_model_folder(family, encoder_layers=2, decoder_layers=4))
    config = merged_config(model.generation_config, replace(OWN, beams=2, max_length=8))
    sources = [rows.source(i) for i in range(3)]
    output = generate_ids(model, sources, config, model.config.pad_token_id, "cpu")
    config.use_cache = False
    plain = generate_ids(model, sources, config, model.config.pad_token_id, "cpu")
    assert torch.equal(output, plain)


def test_settings_lie_over_the_checkpoints_own(tiny_model_folder: Any) -> None:
    model = load_model(Path(tiny_model_folder("bart")))
    model.generation_config.num_beams = 4
    model.generation_config.length_penalty = 2.0
    model.generation_config.min_length = 20
    model.generation_config.max_length = 60
    own = merged_config(model.generation_config, OWN)
    assert (own.num_beams, own.length_penalty, own.min_length, own.max_length) == (4, 2.0, 20, 60)
    changed = merged_config(model.generation_config, replace(OWN, beams=6, length_penalty=0.5, max_length=10, no_repeat_ngram=3))
    assert (changed.num_beams, changed.length_penalty, changed.max_length) == (6, 0.5, 10)
    assert changed.no_repeat_ngram_size == 3
    assert changed.min_length == 0  # the shorter limit is what was asked for
    assert model.generation_config.num_beams == 4  # the model keeps its own


def test_mbart_answers_in_the_language_of_the_targets(tiny_model_folder: Any, tmp_path: Path) -> None:
    model, tokenizer = load_model(tiny_model_folder("mbart")), load_tokenizer(tiny_model_folder("mbart"))
    end, romanian = tokenizer.convert_tokens_to_ids(["</s>", "ro_RO"])
    text = {"id": "0", "source": "", "target": ""}
    write_rows(tmp_path, "train", [([5, end], [8, 9, end, romanian], text)])
    write_rows(tmp_path, "validation", [([5, end], [romanian, 8, 9, end], text)])
    own = merged_config(model.generation_config, OWN)
    assert own.decoder_start_token_id == tokenizer.convert_tokens_to_ids("de_DE")
    answer_in_language(own, "mbart", Rows.open(tmp_path, "train").target(0))  # mBART-25: the code opens the decoder
    assert own.decoder_start_token_id == romanian and own.forced_bos_token_id is None
    fifty = merged_config(model.generation_config, OWN)
    answer_in_language(fifty, "mbart", Rows.open(tmp_path, "validation").target(0))  # mBART-50: it is the first token
    assert fifty.forced_bos_token_id == romanian
    output = generate_ids(model, [Rows.open(tmp_path, "train").source(0)], own, 1, "cpu")
    assert output[0, 0] == romanian


def test_no_engine_setting_is_warned_about(tiny_model_folder: Any, rows: Rows, caplog: Any, recwarn: Any) -> None:
    folder = tiny_model_folder("bart")
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    model.generation_config.length_penalty = 2.0
    model.generation_config.early_stopping = True
    model.generation_config.min_length = 20
    for beams in (1, 2):
        settings = replace(OWN, beams=beams, max_length=10)
        generate_texts(TransformersEngine(model, tokenizer, settings, "cpu"), rows, [0, 1])
    assert caplog.text == "" and not recwarn.list


def test_a_checkpoint_that_says_no_length_takes_the_default_of_the_plan() -> None:
    from transformers import GenerationConfig

    unsaid, default = GenerationConfig(min_length=30), replace(OWN, default_max_length=48)
    assert merged_config(unsaid, default).max_length == 48
    assert merged_config(unsaid, replace(default, max_length=12)).max_length == 12
    assert merged_config(unsaid, replace(default, max_length=12)).min_length == 0
    for said in (GenerationConfig(max_length=62), GenerationConfig(max_new_tokens=7)):
        assert limit_of(merged_config(said, default)) == limit_of(said)
    assert limit_of(merged_config(unsaid, OWN)) == 20  # what transformers would take: nobody chose it


@pytest.mark.parametrize(
    ("num_texts", "at_limit", "told"), [(48, 48, True), (2, 2, True), (8, 2, False), (100, 5, False), (100, 6, True), (0, 0, False)]
)
def test_more_than_a_few_texts_at_the_limit_are_told(num_texts: int, at_limit: int, told: bool) -> None:
    ends = Ends()
    for number in range(num_texts):
        ends.add(20 if number < at_limit else None)
    notice = ends.notice("evaluation.generation")
    assert (notice is not None) == told
    if notice is not None:
        assert notice.message == f"{at_limit} of {num_texts} texts end at the limit of 20 tokens"
        assert (notice.code, notice.spec_path) == ("R355", "evaluation.generation.max_length")
