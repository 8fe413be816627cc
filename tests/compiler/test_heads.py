"""The head of a teacher: how many classes, in which order, and is it there?"""

import json

import pytest

BERT = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
    "intermediate_size": 24,
}  # fmt: skip
SAVED = {"architectures": ["BertForSequenceClassification"]}
NAMES = {"0": "contradiction", "1": "neutral", "2": "entailment"}
SPEC = """
version: 1
name: small
task: classification
teacher: {path: ./model}
student: {encoder_layers: 2}
data:
  train: {files: rows.jsonl}
  validation: {files: more.jsonl}
  test: {files: last.jsonl}
  columns: {premise: premise, hypothesis: hypothesis, label: label}
  labels: [contradiction, neutral, entailment]
"""


@pytest.fixture
def compile_with(compile_text, tmp_path):
    """`compile_with(config, *overrides)`: the spec above with a teacher of this config."""
    for number, name in enumerate(("rows", "more", "last")):
        row = {"premise": f"a {number}", "hypothesis": "b", "label": "neutral"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")

    def compile_it(config, *overrides, text=SPEC):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "config.json").write_text(json.dumps({**BERT, **config}), "utf-8")
        (tmp_path / "model" / "model.safetensors").touch()
        return compile_text(*overrides, text=text)

    return compile_it


def teacher_settings(lowered) -> dict:
    settings = lowered.stage("teacher")["settings"]
    return {name: settings[name] for name in ("num_labels", "seed")}


@pytest.mark.parametrize("config", [{"num_labels": 3, **SAVED}, {"id2label": NAMES, **SAVED}, {"id2label": NAMES}])
def test_a_teacher_that_tells_the_labels_apart(compile_with, config):
    lowered = compile_with(config)
    assert lowered.codes == []
    assert teacher_settings(lowered) == {"num_labels": 3, "seed": None}
    assert lowered.stage("student")["settings"]["num_labels"] == 3


def test_without_labels_in_the_data_the_config_decides(compile_with):
    text = SPEC.replace("  labels: [contradiction, neutral, entailment]\n", "")
    assert teacher_settings(compile_with({"num_labels": 7, **SAVED}, text=text)) == {"num_labels": 7, "seed": None}


def test_another_number_of_classes_is_an_error_unless_the_teacher_is_trained(compile_with):
    config = {"id2label": {"0": "no", "1": "yes"}, **SAVED}
    lowered = compile_with(config)
    assert [(d.code, d.path) for d in lowered.diagnostics] == [("E534", "data.labels")]
    assert "no and yes" in lowered.diagnostics[0].message
    trained = compile_with(config, "teacher.train={}", "teacher.seed=7")
    assert trained.codes == []
    assert teacher_settings(trained) == {"num_labels": 3, "seed": 7}


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        (["contradiction", "neutral", "entailment"], []),
        (["CONTRADICTION", "Neutral", "entailment"], []),  # the names of old checkpoints
        (["entailment", "neutral", "contradiction"], ["W531"]),
        (["a", "b", "c"], ["E534"]),  # of other data
    ],
)
def test_the_order_of_the_labels_is_that_of_the_outputs(compile_with, labels, codes):
    lowered = compile_with({"id2label": NAMES, **SAVED}, f"data.labels=[{', '.join(labels)}]")
    assert lowered.codes == codes
    if codes:
        assert lowered.diagnostics[0].hint.startswith("write `labels: [contradiction, neutral, entailment]`")


def test_numbered_labels_have_no_order(compile_with):
    assert compile_with({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, **SAVED}).codes == []


def test_a_head_that_is_drawn_is_trained_or_warned_of(compile_with):
    config = {"architectures": ["BertForMaskedLM"]}
    lowered = compile_with(config, "teacher.seed=7")
    assert [(d.code, d.path) for d in lowered.diagnostics] == [("W532", "teacher.path")]
    assert teacher_settings(lowered) == {"num_labels": 3, "seed": 7}
    trained = compile_with(config, "teacher.train={}", "teacher.seed=7")
    assert trained.codes == []
    assert teacher_settings(trained) == {"num_labels": 3, "seed": 7}


MASKED_LM = """
version: 1
name: small
task: masked-lm
teacher: {path: ./model}
student: {encoder_layers: 2}
data:
  train: {files: rows.jsonl}
  validation: {files: more.jsonl}
  test: {files: last.jsonl}
  columns: {text: premise}
"""


@pytest.mark.parametrize(
    ("saved", "codes"),
    [
        ("BertForMaskedLM", []),
        ("BertForPreTraining", []),
        ("BertModel", ["W532"]),
        ("BertForSequenceClassification", ["W532"]),
    ],
)
def test_a_masked_lm_needs_a_head_that_predicts_tokens(compile_with, saved, codes):
    lowered = compile_with({"architectures": [saved]}, text=MASKED_LM)
    assert lowered.codes == codes
    assert teacher_settings(lowered) == {"num_labels": None, "seed": 42 if codes else None}


def test_a_teacher_of_other_classes(compile_with):
    names = {"0": "sports", "1": "politics", "2": "weather"}
    lowered = compile_with({"id2label": names, **SAVED})
    assert lowered.codes == ["E534"]
    (told,) = lowered.diagnostics
    assert "contradiction, neutral and entailment" in told.message and "sports, politics and weather" in told.message
    assert compile_with({"id2label": names, **SAVED}, "teacher.train={}").codes == []  # it learns them


# --- from scratch ------------------------------------------------------------------------------------

SCRATCH = SPEC.replace(
    "{path: ./model}",
    """
  architecture: {family: distilbert, encoder_layers: 3, d_model: 16, heads: 2, ffn_dim: 24, max_positions: 64}
  tokenizer: {kind: wordpiece, vocab_size: 400}
  train: {}""",
).replace("  labels:", "  max_source_tokens: 64\n  labels:")


def test_a_classifier_from_scratch(compile_with):
    lowered = compile_with({}, text=SCRATCH)
    assert lowered.codes == []
    assert teacher_settings(lowered) == {"num_labels": 3, "seed": 42}
    settings = lowered.stage("teacher")["settings"]
    assert settings["config"]["n_layers"] == 3 and "decoder_start_token_id" not in settings["config"]
    assert lowered.stage("train")["needs"]["data"] == "data"
    columns = {"source": "premise", "hypothesis": "hypothesis", "id": None}
    assert lowered.stage("data")["settings"]["columns"] == {**columns, "target": "label"}
    tokenizer = lowered.stage("tokenizer")["settings"]
    assert tokenizer["columns"] == {**columns, "target": ""}  # names of classes are no texts
    assert (tokenizer["algorithm"], tokenizer["family"]) == ("wordpiece", "distilbert")


def test_an_encoder_for_masked_tokens_from_scratch(compile_with, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a b"}\n', "utf-8")
    text = SCRATCH.replace("classification", "masked-lm").replace("distilbert", "roberta").replace("wordpiece", "bpe")
    text = text[: text.index("  columns:")] + "  columns: {text: text}\n  max_source_tokens: 64\n"
    lowered = compile_with({}, text=text)
    assert lowered.codes == []
    assert teacher_settings(lowered) == {"num_labels": None, "seed": 42}
    assert lowered.stage("teacher")["settings"]["config"] == {
        "vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 65, "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("  labels: [contradiction, neutral, entailment]\n", ""), "E202",
         "the key `labels` is missing in `data`: a model from scratch knows no classes"),
        (("{family: distilbert,", "{family: bert, decoder_layers: 2,"), "E533", "a bert model has no decoder"),
        (("{family: distilbert,", "{family: roberta,"), "E506", "a roberta model has no tokenizer of word pieces"),
        (("{family: distilbert,", "{family: bart,"), "E202", "the key `decoder_layers` is missing in `teacher.architecture`"),
        (("max_positions: 64", "max_positions: 63"), "E513", "max_source_tokens is 64; the distilbert teacher has positions for 63 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_built(compile_with, change, code, message):
    found = compile_with({}, text=SCRATCH.replace(*change)).diagnostics
    assert [(diagnostic.code, diagnostic.message) for diagnostic in found if diagnostic.severity == "error"] == [(code, message)]


REGRESSION = SPEC.replace("classification", "regression").replace("\n  labels: [contradiction, neutral, entailment]", "")


def test_a_regression_has_one_output(compile_with):
    one = {"id2label": {"0": "LABEL_0"}, **SAVED}
    lowered = compile_with(one, text=REGRESSION)
    assert lowered.codes == [] and teacher_settings(lowered) == {"num_labels": 1, "seed": None}
    assert lowered.stage("student")["settings"]["num_labels"] == 1
    assert lowered.stage("evaluate-student")["settings"]["metrics"] == ["pearson", "spearman"]
    assert compile_with({"num_labels": 3, **SAVED}, text=REGRESSION).codes == ["E534"]
    trained = compile_with({"num_labels": 3, **SAVED}, "teacher.train={}", text=REGRESSION)
    assert trained.codes == [] and teacher_settings(trained) == {"num_labels": 1, "seed": 42}
    assert compile_with(one, "data.labels=[a, b]", text=REGRESSION).codes == ["E404"]
    assert compile_with(one, "evaluation.metrics=[accuracy]", text=REGRESSION).codes == ["E402"]
    squared = "loss={labels: 1.0, logits: {weight: 0.5, divergence: mse}, cosine: 0.1, hidden: {encoder: 1.0}}"
    assert compile_with(one, squared, text=REGRESSION).codes == []
    assert compile_with(one, "loss={labels: 1.0, logits: 0.5}", text=REGRESSION).codes == ["E420"]
