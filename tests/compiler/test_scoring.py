"""How texts are scored: by the language of the targets, by the spec, and what of it is in which key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.resolve.scoring import DEFAULT, Scoring, chosen_scoring

SPEC = """
version: 1
name: scored
task: summarization
teacher: {path: ./model}
student: {decoder_layers: 1}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
  max_source_tokens: 64
  max_target_tokens: 32
validation: {metrics: [loss, rouge2]}
evaluation: {metrics: [rouge2, bleu, chrf], generation: {max_length: 32}, teacher_generation: {max_length: 32}}
"""
SIZES = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
}  # fmt: skip


def model(folder: Path, family: str, **files: Any) -> None:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": family, **SIZES}), "utf-8")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")


def codes(lowered: Any) -> list[str]:
    return [f"{found.code} {found.path}" for found in lowered.diagnostics if found.code[1:] not in ("575", "537", "538")]


def scored(plan: Any) -> dict[str, Any]:
    """Stage -> what its settings say of scoring."""
    found = {}
    for stage in plan["stages"]:
        settings = stage["settings"]
        settings = settings["validation"] if stage["kind"] == "train" else settings
        if "scoring" in settings:
            found[stage["id"]] = settings["scoring"]
    return found


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (None, DEFAULT), ("en", DEFAULT), ("en_XX", DEFAULT),
        ("ne_NP", Scoring("unicode", False, "13a")), ("de", Scoring("unicode", False, "13a")),
        ("zh_CN", Scoring("unicode", False, "zh")), ("cmn_Hans", Scoring("unicode", False, "zh")),
        ("ja", Scoring("unicode", False, "ja-mecab")), ("ko_KR", Scoring("unicode", False, "ko-mecab")),
        ("th", Scoring("unicode", False, "char")),
    ],
)  # fmt: skip
def test_a_language_decides(language: str | None, expected: Scoring) -> None:
    assert chosen_scoring(language, None, None, None) == expected
    assert chosen_scoring(language, "default", None, "13a") == Scoring("default", True, "13a")
    assert chosen_scoring(language, "unicode", True, "char") == Scoring("unicode", True, "char")


def test_a_stage_has_what_its_metrics_need(compile_text: Any, tmp_path: Path) -> None:
    model(tmp_path / "model", "bart")
    usual = compile_text(text=SPEC)
    assert codes(usual) == [] and scored(usual.plan) == {}
    spelled = compile_text("evaluation.rouge={tokenizer: default, stemmer: true}", "evaluation.bleu.tokenize=13a", text=SPEC)
    assert spelled.plan["key"] == usual.plan["key"]
    rouge = {"rouge_tokenizer": "unicode", "stemmer": False}
    chinese = compile_text("data.target_language=zh", text=SPEC)  # to BART it means nothing else
    assert codes(chinese) == []
    both = {**rouge, "bleu_tokenize": "zh"}
    assert scored(chinese.plan) == {"train": rouge, "evaluate-teacher": both, "evaluate-student": both}
    keys = {stage["id"]: stage["key"] for stage in usual.plan["stages"]}
    assert all(keys[stage["id"]] == stage["key"] for stage in chinese.plan["stages"] if stage["id"] == "teacher")
    labels = ["pseudo_labels={own: {by: teacher, keep: {min_rouge2: 5}}}", "targets=[own]", "evaluation.rouge.tokenizer=unicode"]
    assert scored(compile_text(*labels, text=SPEC).plan) == {
        **dict.fromkeys(("written-own", "labels-own", "train", "evaluate-teacher", "evaluate-student"), rouge)
    }


def test_line_breaks_of_a_pegasus_checkpoint(compile_text: Any, tmp_path: Path) -> None:
    model(tmp_path / "model", "pegasus", tokenizer={"model": {"vocab": [["<n>", 0.0]]}})
    breaks = {"line_break": "<n>"}
    expected = {"train": breaks, "evaluate-teacher": breaks, "evaluate-student": breaks}
    assert scored(compile_text(text=SPEC).plan) == expected
    assert set(scored(compile_text("validation.metrics=[loss]", text=SPEC).plan)) == {"evaluate-teacher", "evaluate-student"}
    model(tmp_path / "model", "pegasus", tokenizer={"model": {"vocab": [["a", 0.0]]}})  # one that was built from scratch
    assert scored(compile_text(text=SPEC).plan) == {}


def test_a_language_that_nothing_depends_on_is_refused(compile_text: Any, tmp_path: Path) -> None:
    model(tmp_path / "model", "bart")
    refused = ["E404 data.source_language", "E404 data.target_language"]
    assert codes(compile_text("data={source_language: de, target_language: en}", text=SPEC)) == refused
    german = ["data.target_language=de", "evaluation.metrics=[bleu]", "validation.metrics=[loss]"]
    assert codes(compile_text(*german, text=SPEC)) == refused[1:]
    assert codes(compile_text("data.target_language=de", text=SPEC)) == []  # ROUGE depends on it
    said = "evaluation.rouge={tokenizer: unicode, stemmer: false}"
    assert codes(compile_text("data.target_language=de", said, text=SPEC)) == refused[1:]
    measured = ["evaluation={rouge: {stemmer: false}, bleu: {tokenize: char}}", "evaluation.metrics=[chrf]", "validation.metrics=[loss]"]
    assert codes(compile_text(*measured, text=SPEC)) == ["E404 evaluation.rouge", "E404 evaluation.bleu"]


def test_a_marian_model_of_several_languages_is_told_which(compile_text: Any, tmp_path: Path) -> None:
    text = SPEC.replace("summarization", "translation").replace("rouge2, ", "").replace(", rouge2", "")
    tokens = {"<pad>": 0, ">>ron<<": 1, ">>fra<<": 2, ">>": 3}
    model(tmp_path / "model", "marian", vocab=tokens)
    told = compile_text("data={target_language: ron, prefix: 'x '}", text=text)
    assert codes(told) == [] and told.stage("data")["settings"]["prefix"] == ">>ron<< x "
    assert codes(compile_text("data.target_language=ro", text=text)) == ["E545 data.target_language"]
    assert codes(compile_text(text=text)) == ["W515 teacher"]
    own = compile_text("data.target_language=fra", "pseudo_labels={own: {by: teacher}}", "targets=[own]", text=text)
    assert own.stage("labels-own")["settings"]["prefix"] == ">>fra<< "
    model(tmp_path / "model", "marian", vocab={"<pad>": 0})
    assert codes(compile_text("data.target_language=ron", text=text)) == ["E404 data.target_language"]
    assert codes(compile_text("data.target_language=cmn_Hans", text=text)) == []  # BLEU depends on it
    model(tmp_path / "model", "marian")  # its vocabulary is not known here: the run looks at it
    assert codes(compile_text("data.target_language=ron", text=text)) == []


@pytest.mark.parametrize(
    ("kind", "source", "target", "told"),
    [
        ("MBart50Tokenizer", "en_XX", "id_ID", []),
        ("MBart50Tokenizer", "en_XX", "ind", ["data.target_language: did you mean id_ID?"]),
        ("MBart50Tokenizer", "en", "xx_OWN", ["data.source_language: did you mean en_XX?"]),
        ("MBart50Tokenizer", "enXX", "xyz", [
            "data.source_language: did you mean en_XX?",
            "data.target_language: it has tokens for ar_AR, cs_CZ, de_DE, en_XX, es_XX, et_EE, fi_FI and fr_XX ...",
        ]),
        ("MBartTokenizer", "en_XX", "zz_ZZ", [
            "data.target_language: it has tokens for ar_AR, cs_CZ, de_DE, en_XX, es_XX, et_EE, fi_FI and fr_XX ...",
        ]),
        ("MBartTokenizer", "zh_CN", "id_ID", [  # one of mBART-50's
            "data.target_language: it has tokens for ar_AR, cs_CZ, de_DE, en_XX, es_XX, et_EE, fi_FI and fr_XX ...",
        ]),
        ("MBartTokenizer", "ind", "ro", ["data.source_language: it has tokens for", "data.target_language: did you mean ro_RO?"]),
    ],
)  # fmt: skip
def test_an_mbart_has_a_code_for_a_language(
    compile_text: Any, tmp_path: Path, kind: str, source: str, target: str, told: list[str]
) -> None:
    added = {"added_tokens": [{"id": 9, "content": "xx_OWN"}], "model": {"vocab": [["ind", -1.0]]}}
    model(tmp_path / "model", "mbart", tokenizer_config={"tokenizer_class": kind}, tokenizer=added)
    found = compile_text(f"data={{source_language: {source}, target_language: {target}}}", text=SPEC).diagnostics
    assert [one.code for one in found] == ["E545"] * len(told)
    for one, expected in zip(found, told, strict=True):
        assert f"{one.path}: {one.hint}".startswith(expected)


def test_a_code_of_an_mbart_that_is_not_here_is_left_to_the_run(compile_text: Any, tmp_path: Path) -> None:
    model(tmp_path / "model", "mbart", tokenizer_config={"tokenizer_class": "MBart50Tokenizer"})
    assert codes(compile_text("data={source_language: xyz, target_language: en_XX}", text=SPEC)) == []
    (tmp_path / "model" / "sentencepiece.bpe.model").write_bytes(b"")
    assert codes(compile_text("data={source_language: xyz, target_language: en_XX}", text=SPEC)) == ["E545 data.source_language"]


def test_a_labeller_that_is_an_mbart_asks_for_the_languages(compile_text: Any, tmp_path: Path) -> None:
    model(tmp_path / "model", "bart")
    model(tmp_path / "labeller", "mbart")
    text = SPEC + "pseudo_labels: {own: {by: {path: ./labeller}}}\ntargets: [original, own]\n"
    found = compile_text("data.source_language=en_XX", text=text).diagnostics
    assert [(one.code, one.path) for one in found if one.severity == "error"] == [("E515", "data.target_language")]


def test_an_mbart_without_languages_is_not_asked_for_them(compile_text: Any, tmp_path: Path) -> None:
    missing = ["E515 data.source_language", "E515 data.target_language"]
    model(tmp_path / "model", "mbart", tokenizer_config={"tokenizer_class": "MBart50Tokenizer"})
    assert codes(compile_text(text=SPEC)) == missing
    model(tmp_path / "model", "mbart")
    assert codes(compile_text(text=SPEC)) == missing
    model(tmp_path / "model", "mbart", tokenizer_config={"tokenizer_class": "BarthezTokenizer"})
    assert codes(compile_text(text=SPEC)) == []
    given = "data={source_language: fr_XX, target_language: en_XX}"
    assert codes(compile_text(given, text=SPEC)) == ["E404 data.source_language", "E404 data.target_language"]
