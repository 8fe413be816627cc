"""The student of a run: encoder-only ones, another family, layers of other checkpoints, what cannot be."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.explain.explain import explain_json, explain_text

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
BERT = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2,
    "intermediate_size": 24, "architectures": ["BertForMaskedLM"],
}  # fmt: skip
ROBERTA = {**BERT, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}
DISTILBERT = {
    "model_type": "distilbert", "vocab_size": 60, "dim": 16, "n_layers": 6, "n_heads": 2, "hidden_dim": 24,
    "architectures": ["DistilBertForMaskedLM"],
}  # fmt: skip
BART = {
    "model_type": "bart", "vocab_size": 60, "d_model": 16, "encoder_layers": 4, "decoder_layers": 6,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip
MASKED_LM = """
version: 1
name: small
task: masked-lm
teacher: {path: ./model}
student: {encoder_layers: 6}
data:
  train: {files: one.jsonl}
  validation: {files: two.jsonl}
  test: {files: three.jsonl}
  max_source_tokens: 128
"""
SUMMARIZATION = """
version: 1
name: small
task: summarization
teacher: MODEL
student: {decoder_layers: 3}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
"""


@pytest.fixture
def compile_bert(compile_text, tmp_path):
    """`compile_bert(*overrides, config=BERT)`: the masked-lm spec with a teacher of this config."""
    for number, name in enumerate(("one", "two", "three")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": f"a {number}"}) + "\n", "utf-8")

    def compile_it(*overrides, config=BERT, text=MASKED_LM):
        model(tmp_path, config)
        return compile_text(*overrides, text=text)

    return compile_it


def model(folder: Path, config: dict, name: str = "model") -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / name / "model.safetensors").touch()


def errors(lowered) -> list[tuple[str, str]]:
    """(code, path) of each; warnings about what no term of the loss uses are others' business."""
    return [(d.code, d.path) for d in lowered.diagnostics if d.severity == "error"]


def student_settings(lowered) -> dict:
    return lowered.stage("student")["settings"]


# --- encoder-only ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "family", "field"),
    [(BERT, "bert", "num_hidden_layers"), (ROBERTA, "roberta", "num_hidden_layers")],
)
def test_an_encoder_only_student_is_all_encoder(compile_bert, config, family, field):
    lowered = compile_bert(config=config)
    assert lowered.codes == []
    settings = student_settings(lowered)
    assert (settings["family"], settings["config"]) == (family, {field: 6})
    assert settings["encoder"] == {"origin": "teacher", "layers": [0, 2, 4, 7, 9, 11]}
    assert settings["decoder"] == {"origin": None, "layers": None}
    assert (settings["encoder_layers"], settings["decoder_layers"], settings["seed"]) == (6, 0, None)
    assert lowered.plan["copy"] == {"encoder": [0, 2, 4, 7, 9, 11], "decoder": None}
    assert lowered.plan["phi"] == {"encoder": [1, 3, 5, 8, 10, 11], "decoder": None}
    assert lowered.plan["student"]["model"] == f"{family} 6"
    assert lowered.stage("train")["settings"]["freeze"] == []  # all there is learns


def test_an_equally_deep_encoder_only_student_is_supervised_layer_by_layer(compile_bert):
    lowered = compile_bert("student.encoder_layers=null")
    assert lowered.plan["copy"]["encoder"] == lowered.plan["phi"]["encoder"] == list(range(12))
    assert lowered.stage("train")["settings"]["freeze"] == []


@pytest.mark.parametrize(
    ("phi", "layers"),
    [
        ("copied-from", [0, 2, 4, 7, 9, 11]),
        ("every-kth", [1, 3, 5, 7, 9, 11]),
        ("[0, 1, 2, 3, 4, 11]", [0, 1, 2, 3, 4, 11]),
    ],
)
def test_phi_of_an_encoder_only_student(compile_bert, phi, layers):
    assert compile_bert(f"phi={{encoder: {phi}}}").plan["phi"] == {"encoder": layers, "decoder": None}


@pytest.mark.parametrize("random", ["encoder", "embeddings"])
def test_random_weights_of_an_encoder_only_student_have_a_seed(compile_bert, random):
    assert student_settings(compile_bert(f"student.init.{random}=random", "seeds=[5]"))["seed"] == 5


def test_what_is_explained_of_an_encoder_only_student(compile_bert):
    lowered = compile_bert()
    (run,) = explain_json([lowered.typed])["runs"]
    assert run["student"]["decoder_layers"] == 0
    assert run["student"]["trainable_parameters"] == run["student"]["parameters"]
    assert "bert 6" in explain_text(lowered.typed)


# --- another family --------------------------------------------------------------------------------


def test_a_distilbert_of_a_bert(compile_bert):
    lowered = compile_bert("student.family=distilbert")
    assert lowered.codes == []
    settings = student_settings(lowered)
    assert settings["family"] == "distilbert"
    assert settings["config"] == {
        "n_layers": 6, "dim": 16, "n_heads": 2, "hidden_dim": 24, "vocab_size": 60, "max_position_embeddings": 512,
        "sinusoidal_pos_embds": False,
    }  # fmt: skip
    assert settings["encoder"] == {"origin": "teacher", "layers": [0, 2, 4, 7, 9, 11]}
    assert settings["seed"] is None
    assert lowered.plan["student"]["family"] == "distilbert"
    assert settings["parameters"] == lowered.plan["student"]["parameters"]
    assert lowered.typed.stages["train"].model.parameters == settings["parameters"]
    # Without the teacher's two token types, the same six layers as a BERT's.
    assert settings["parameters"] == compile_bert().plan["student"]["parameters"] - 2 * 16


@pytest.mark.parametrize("layers", [1, 4, 12])
def test_a_distilbert_has_as_many_layers_as_asked(compile_bert, layers):
    lowered = compile_bert("student.family=distilbert", f"student.encoder_layers={layers}")
    assert student_settings(lowered)["config"]["n_layers"] == layers


def test_a_classifying_distilbert_draws_its_dense_layer(compile_bert):
    text = MASKED_LM.replace("task: masked-lm", "task: classification").replace("max", "columns: {label: text}\n  max")
    text = text.replace("{label: text}", "{text: source, label: text}\n  labels: [a, b]")
    config = {**BERT, "architectures": ["BertForSequenceClassification"]}
    assert student_settings(compile_bert("student.family=distilbert", config=config, text=text))["seed"] == 42
    assert student_settings(compile_bert(config=config, text=text))["seed"] is None


def test_a_student_begins_as_another_model_of_its_shape(compile_bert, tmp_path):
    """A narrower one that was distilled before, and its teacher's head is not asked for."""
    narrow = {**BERT, "hidden_size": 8, "num_hidden_layers": 4, "intermediate_size": 12}
    model(tmp_path, narrow, "narrow")
    text = MASKED_LM.replace("task: masked-lm", "task: classification")
    text = text.replace("  max", "  columns: {text: source, label: text}\n  labels: [a, b]\n  max")
    whole = "student={encoder_layers: 4, d_model: 8, ffn_dim: 12, init: {embeddings: {from: ./narrow}, encoder: {from: ./narrow, layers: all}}}"
    lowered = compile_bert(whole, "phi={encoder: every-kth}", "loss={hidden: {encoder: 1}}", text=text,
                           config={**BERT, "architectures": ["BertForSequenceClassification"]})  # fmt: skip
    assert errors(lowered) == []
    settings = student_settings(lowered)
    assert (settings["embeddings"], settings["seed"]) == ("embeddings_origin", 42)
    origin = lowered.stage("student")["needs"]["embeddings_origin"]
    assert lowered.stage("student")["needs"]["encoder_origin"] == origin
    assert "fold_token_types" not in settings


def test_token_types_are_folded_where_it_is_asked_for(compile_bert):
    lowered = compile_bert("student={family: distilbert, encoder_layers: 6, init: {fold_token_types: true}}")
    assert errors(lowered) == [] and student_settings(lowered)["fold_token_types"] is True


@pytest.mark.parametrize("origin", [DISTILBERT, BERT])
def test_layers_of_a_distilbert_come_from_its_own_kind_or_a_bert(compile_bert, tmp_path, origin):
    model(tmp_path, origin, "other")
    lowered = compile_bert("student={family: distilbert, encoder_layers: 3, init: {encoder: {from: {path: ./other}}}}")
    assert lowered.codes == []
    depth = origin.get("n_layers", 12)
    assert lowered.plan["copy"]["encoder"] == {6: [0, 2, 5], 12: [0, 6, 11]}[depth]


@pytest.mark.parametrize("config", [ROBERTA, DISTILBERT])
def test_a_distilbert_is_made_of_a_bert_alone(compile_bert, config):
    lowered = compile_bert("student.family=distilbert", config=config)
    if config["model_type"] == "distilbert":
        assert lowered.codes == []  # a DistilBERT's student is one anyway
        return
    assert [(d.code, d.path) for d in lowered.diagnostics] == [("E532", "student.family")]
    assert "bert teacher" in lowered.diagnostics[0].message and "roberta" in lowered.diagnostics[0].hint


def test_a_distilbert_is_not_made_of_a_seq2seq_model(compile_text, tmp_path):
    model(tmp_path, BART)
    text = SUMMARIZATION.replace("MODEL", "./model")
    assert compile_text("student={family: distilbert}", text=text).codes == ["E532"]


# --- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("student={decoder_layers: 3}", "student.decoder_layers"),
        ("student={init: {decoder: {layers: first}}}", "student.init.decoder"),
        ("student={init: {decoder: random}}", "student.init.decoder"),
        ("phi={decoder: copied-from}", "phi.decoder"),
    ],
)
def test_settings_of_a_decoder_that_is_not_there(compile_bert, override, path):
    lowered = compile_bert(override)
    assert errors(lowered) == [("E533", path)]


def test_every_setting_of_a_decoder_is_named(compile_bert):
    lowered = compile_bert("student={family: distilbert, decoder_layers: 3, init: {decoder: random}}", "phi={decoder: [1]}")
    assert [code for code, _ in errors(lowered)] == ["E533"] * 3


@pytest.mark.parametrize(
    ("code", "path", "override", "possible"),
    [
        ("E521", "student.encoder_layers", "student={encoder_layers: 13}", "1 to 12 layers"),
        ("E522", "student.init.encoder.layers[0]", "student={encoder_layers: 1, init: {encoder: {layers: [12]}}}", "0"),
        ("E523", "student.init.encoder.layers", "student={encoder_layers: 2, init: {encoder: {layers: [1]}}}", "0 to 11"),
        ("E523", "phi.encoder", "phi={encoder: [1]}", "name 6 layers of 0 to 11"),
        ("E524", "phi.encoder", "student={encoder_layers: 5}|phi={encoder: every-kth}", "1, 2, 3, 4, 6 or 12"),
        ("E525", "student.ffn_dim", "student={ffn_dim: 12}", "encoder: random"),
        ("E525", "student.d_model", "student={d_model: 8}", "`init: {embeddings: random, encoder: random}`"),
        ("E525", "student.init.encoder.from", "student={init: {encoder: {from: {path: ./wide}}}}", "d_model is 16"),
        ("E526", "student.init.encoder.from", "student={init: {encoder: {from: {path: ./roberta}}}}", "a bert model"),
        ("E526", "student.init.encoder.from",
         "student={family: distilbert, init: {encoder: {from: {path: ./roberta}}}}", "a distilbert or bert model"),
        ("E521", "student.init.encoder.from", "student={encoder_layers: null, init: {encoder: {from: {path: ./small}}}}",
         "1 to 3 layers"),
        ("E521", "student.encoder_layers", "student={encoder_layers: 4, init: {encoder: {from: {path: ./small}}}}",
         "1 to 3 layers"),
        ("E525", "student.init.embeddings.from", "student={init: {embeddings: {from: {path: ./wide}}}}", "d_model is 16"),
        ("E525", "student.init.embeddings.from", "student={init: {embeddings: {from: {path: ./words}}}}", "vocabulary is 60"),
        ("E526", "student.init.embeddings.from", "student={init: {embeddings: {from: {path: ./roberta}}}}", "a bert model"),
        ("E529", "student.init.fold_token_types", "student={init: {fold_token_types: true}}", "family: distilbert"),
        ("E529", "student.init.fold_token_types",
         "student={family: distilbert, init: {embeddings: random, fold_token_types: true}}", "remove it"),
        ("E505", "student.heads", "student={heads: 3, init: {encoder: random}}", "a multiple of heads"),
    ],
)  # fmt: skip
def test_an_impossible_student_is_told_what_is_possible(compile_bert, tmp_path, code, path, override, possible):
    for name, config in (
        ("wide", {**BERT, "hidden_size": 32}),
        ("small", {**BERT, "num_hidden_layers": 3}),
        ("roberta", ROBERTA),
        ("words", {**BERT, "vocab_size": 61}),
    ):
        model(tmp_path, config, name)
    lowered = compile_bert(*override.split("|"))
    assert errors(lowered) == [(code, path)]
    assert possible in next(d.hint for d in lowered.diagnostics if d.code == code)


def test_one_mistake_of_a_student_hides_no_other(compile_bert):
    lowered = compile_bert(
        "student={family: distilbert, encoder_layers: 5, init: {encoder: {layers: [0, 99]}}}",
        "phi={encoder: every-kth, decoder: [1]}",
        config=ROBERTA,
    )
    assert sorted(errors(lowered)) == [
        ("E523", "student.init.encoder.layers"), ("E524", "phi.encoder"), ("E532", "student.family"),
        ("E533", "phi.decoder"),
    ]  # fmt: skip


@pytest.mark.parametrize("layers", ["[99]", "[0, 1, 2]"])
def test_phi_of_copies_that_cannot_be_is_not_judged(compile_bert, layers):
    override = f"student={{encoder_layers: 2, init: {{encoder: {{layers: {layers}}}}}}}"
    assert [code for code, _ in errors(compile_bert(override, "phi={encoder: copied-from}"))] == ["E523"]


def test_a_student_of_a_deeper_origin_is_no_deeper_than_its_teacher(compile_text, tmp_path):
    model(tmp_path, BART)
    model(tmp_path, {**BART, "decoder_layers": 12}, "deep")
    text = SUMMARIZATION.replace("MODEL", "./model")
    lowered = compile_text("student={decoder_layers: 9, init: {decoder: {from: {path: ./deep}}}}", text=text)
    assert errors(lowered) == [("E521", "student.decoder_layers")]


def test_gated_and_plain_t5_layers_do_not_mix(compile_text, tmp_path):
    t5 = {"model_type": "t5", "vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 4, "num_heads": 2,
          "decoder_start_token_id": 0}  # fmt: skip
    model(tmp_path, t5)
    model(tmp_path, {**t5, "feed_forward_proj": "gated-gelu"}, "gated")
    text = SUMMARIZATION.replace("MODEL", "./model")
    lowered = compile_text("student.init.decoder={from: {path: ./gated}}", text=text)
    assert lowered.codes == ["E526"]
    assert lowered.diagnostics[0].message == "layers of a gated t5 model cannot be copied into a t5 student"


# --- Tables 8 and 9 of arXiv 2010.13002 -------------------------------------------------------------

XSUM, CNN, PRETRAINED = "facebook/bart-large-xsum", "facebook/bart-large-cnn", "facebook/bart-large"
MARIAN = "Helsinki-NLP/opus-mt-en-ro"
TABLES_8_AND_9 = [
    # (row, teacher, init.decoder, its copies, where they come from)
    ("8 SFT", XSUM, "{layers: spaced}", [0, 6, 11], "teacher"),
    ("8 SFT hi", XSUM, "{layers: last}", [9, 10, 11], "teacher"),
    ("8 SFT lo", XSUM, "{layers: first}", [0, 1, 2], "teacher"),
    ("8 SFT mid", XSUM, "{layers: middle}", [5, 6, 7], "teacher"),
    ("8 SFT 000", XSUM, "{layers: [0, 0, 0]}", [0, 0, 0], "teacher"),
    ("8 SFT rand decoder", XSUM, "random", None, None),
    ("8 From Pre-trained", XSUM, f"{{from: {PRETRAINED}, layers: [0, 6, 11]}}", [0, 6, 11], PRETRAINED),
    ("8 From FT on CNN", XSUM, f"{{from: {CNN}}}", [0, 6, 11], CNN),
    ("9 SFT", CNN, "{layers: spaced}", [0, 6, 11], "teacher"),
    ("9 From Pre-trained", CNN, f"{{from: {PRETRAINED}}}", [0, 6, 11], PRETRAINED),
    ("9 SFT hi", CNN, "{layers: last}", [9, 10, 11], "teacher"),
    ("9 SFT rand", CNN, "random", None, None),
    ("9 Marian SFT", MARIAN, "{layers: spaced}", [0, 2, 5], "teacher"),
    ("9 Marian back", MARIAN, "{layers: last}", [3, 4, 5], "teacher"),
    ("9 Marian front", MARIAN, "{layers: first}", [0, 1, 2], "teacher"),
    ("9 Marian rand", MARIAN, "random", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("row", "teacher", "init", "copies", "origin"), TABLES_8_AND_9, ids=[r[0] for r in TABLES_8_AND_9])
def test_initialisations_of_tables_8_and_9(compile_text, row, teacher, init, copies, origin):
    if not (MODELS / teacher).is_dir():
        pytest.skip(f"{MODELS / teacher} is not there")
    task = "translation" if teacher == MARIAN else "summarization"
    text = SUMMARIZATION.replace("MODEL", teacher).replace("task: summarization", f"task: {task}")
    lowered = compile_text(f"student.init.decoder={init}", "data.max_source_tokens=512", text=text, models=(MODELS,))
    assert "E" not in {code[0] for code in lowered.codes}, lowered.diagnostics
    plan, settings = lowered.plan, student_settings(lowered)
    depth = 6 if teacher == MARIAN else 12
    assert plan["copy"] == {"encoder": list(range(depth)), "decoder": copies}
    assert plan["phi"] == {"encoder": None, "decoder": [1, 4, 5] if teacher == MARIAN else [3, 7, 11]}
    assert settings["encoder"] == {"origin": "teacher", "layers": list(range(depth))}
    assert lowered.stage("train")["settings"]["freeze"] == ["encoder", "embeddings", "positions"]
    roles = {None: None, "teacher": "teacher"}
    assert settings["decoder"] == {"origin": roles.get(origin, "decoder_origin"), "layers": copies}
    assert settings["seed"] == (42 if copies is None else None)
    needs = lowered.stage("student")["needs"]
    if origin in roles:
        assert needs == {"teacher": "teacher"}
        return
    assert needs == {"teacher": "teacher", "decoder_origin": "decoder-origin"}
    found = lowered.stage("decoder-origin")
    assert found["execution"]["locations"] == {found["settings"]["fingerprint"]: str((MODELS / origin).resolve())}
    assert lowered.typed.stages["decoder-origin"].model.parameters == found["settings"]["parameters"]
    assert re.search(r"3 of 12 layers of (?!the teacher)\S+, ", explain_text(lowered.typed))


def test_an_encoder_on_other_embeddings_is_not_the_teachers(compile_text: Callable[..., Any]) -> None:
    """The estimate that chooses where a training runs and the one that is shown look at one answer; and what is not
    the teacher's can be compared with it."""
    frozen = ("student={freeze: [encoder]}", "loss={labels: 1, logits: 1, hidden: {encoder: 1, decoder: 1}}")
    for embeddings, shared in (("teacher", True), ("random", False)):
        found = compile_text(*frozen, f"student.init.embeddings={embeddings}")
        plan, train = found.plan, found.stage("train")
        assert train["settings"]["freeze"] == ["encoder"]
        assert found.typed.train.teaching.shared_encoder is shared
        assert (plan["phi"]["encoder"] is None) is shared
