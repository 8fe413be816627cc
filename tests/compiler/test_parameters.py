"""Parameter counts from config.json alone against the models that transformers builds, on the meta device."""

import warnings
from itertools import combinations
from pathlib import Path

import pytest

from distilc.compiler.extensions.families import FAMILIES, tasks_of
from distilc.compiler.resolve.architecture import Architecture, parameter_groups
from distilc.compiler.resolve.catalogue import CATALOGUE
from distilc.compiler.resolve.model_config import architecture_of, read_config
from distilc.compiler.tasks.task import TASKS

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
PARTS = ("encoder", "embeddings", "positions")
FREEZES = [parts for number in range(4) for parts in combinations(PARTS, number)]

BART = {
    "vocab_size": 100, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 24, "max_position_embeddings": 20,
}  # fmt: skip
T5 = {
    "vocab_size": 100, "d_model": 16, "d_kv": 6, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 2, "relative_attention_num_buckets": 12,
}  # fmt: skip
BERT = {
    "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 20,
}  # fmt: skip
DISTILBERT = {
    "vocab_size": 100, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 20,
}  # fmt: skip
MARIAN = {"pad_token_id": 1, "eos_token_id": 0, "decoder_start_token_id": 1, "forced_eos_token_id": 0}
UNTIED = {"tie_word_embeddings": False}
DEEP, SHALLOW, NARROW = (
    {"encoder_layers": 12, "decoder_layers": 6},
    {"encoder_layers": 1, "decoder_layers": 1},
    {"d_model": 8, "encoder_ffn_dim": 10, "decoder_ffn_dim": 12},
)
SHAPES = [
    *({"model_type": family, **BART, **shape, **head}
      for family in ("bart", "mbart", "pegasus") for head in ({}, UNTIED) for shape in ({}, DEEP, SHALLOW, NARROW)),
    *({"model_type": "marian", **BART, **MARIAN, "decoder_vocab_size": 100, **shape, **head}
      for head in ({}, UNTIED) for shape in ({}, DEEP, SHALLOW, NARROW)),
    *({"model_type": "marian", **BART, **MARIAN, "decoder_vocab_size": 90,
       "share_encoder_decoder_embeddings": False, **head} for head in ({}, UNTIED)),
    *({"model_type": "t5", **T5, **shape, **gate, **head}
      for gate in ({}, {"feed_forward_proj": "gated-gelu"}) for head in ({}, UNTIED)
      for shape in ({}, {"num_layers": 8}, {"num_decoder_layers": 1, "num_layers": 1}, {"d_model": 8, "d_ff": 10})),
    {"model_type": "t5", **{key: value for key, value in T5.items() if key != "num_decoder_layers"}},
    *({"model_type": family, **BERT, **shape, **head}
      for family in ("bert", "roberta") for head in ({}, UNTIED)
      for shape in ({}, {"num_hidden_layers": 12}, {"num_hidden_layers": 1}, {"hidden_size": 8, "intermediate_size": 9},
                    {"type_vocab_size": 1}, {"type_vocab_size": 0}, {"max_position_embeddings": 77})),
    {"model_type": "roberta", **BERT, "pad_token_id": 0},
    *({"model_type": "distilbert", **DISTILBERT, **shape, **head}
      for head in ({}, UNTIED)
      for shape in ({}, {"n_layers": 6}, {"n_layers": 1}, {"dim": 8, "hidden_dim": 9}, {"sinusoidal_pos_embds": True})),
    *({"model_type": family} for family in ("t5", "bert", "roberta", "distilbert")),
    {"model_type": "bart", "d_model": 32},
    {"model_type": "bart", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    {"model_type": "t5", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 3},
    {"model_type": "distilbert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
]  # fmt: skip
# One task of each head that the family has; summarization and translation have the same one.
CASES = [
    (config, task)
    for config in SHAPES
    for task in tasks_of(config["model_type"])
    if task != "translation"
]  # fmt: skip


def build(config: dict, task: str, num_labels: int | None = None):
    """The model that transformers builds, on the meta device, the legacy layer count left out."""
    import torch
    import transformers

    names = {"bart": "Bart", "bert": "Bert", "distilbert": "DistilBert", "marian": "Marian", "mbart": "MBart",
             "pegasus": "Pegasus", "roberta": "Roberta", "t5": "T5"}  # fmt: skip
    family = config["model_type"]
    head = {"lm": "MTModel" if family == "marian" else "ForConditionalGeneration", "masked-lm": "ForMaskedLM",
            "classification": "ForSequenceClassification"}[TASKS[task].head]  # fmt: skip
    cls = getattr(transformers, names[family] + head)
    own = FAMILIES[family].fields["encoder_layers"][0]
    dropped = {"model_type", "architectures", *(["num_hidden_layers"] if own in config and own[:3] != "num" else [])}
    kept = {key: value for key, value in config.items() if key not in dropped}
    if num_labels is not None:
        kept["num_labels"] = num_labels
        kept.pop("id2label", None)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls(cls.config_class(**kept))
    if family == "t5" and config.get("tie_word_embeddings") is False:
        # from_pretrained keeps the separate head of a T5 v1.1 checkpoint; a model from its config is tied
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def parts_of(model) -> dict[str, list]:
    """The modules that each word means, found by their names in transformers."""
    core = model if hasattr(model, "encoder") else getattr(model, model.base_model_prefix)
    if hasattr(core, "decoder"):
        stacks = [core.encoder, core.decoder]
        parts = {
            "encoder": [core.encoder],
            "embeddings": [getattr(core, "shared", None), *(stack.embed_tokens for stack in stacks)],
            "positions": [getattr(stack, "embed_positions", None) for stack in stacks],
        }
    else:
        embeddings = core.embeddings
        parts = {
            "encoder": [embeddings, getattr(core, "encoder", None), getattr(core, "transformer", None)],
            "embeddings": [embeddings.word_embeddings, getattr(embeddings, "token_type_embeddings", None)],
            "positions": [embeddings.position_embeddings],
        }
    return {part: [module for module in modules if module is not None] for part, modules in parts.items()}


def head_parameters(shape: Architecture) -> int:
    """Parameters of the head alone."""
    return sum(count for count, parts in parameter_groups(shape) if "head" in parts)


def trained_counts(model) -> dict[tuple[str, ...], int]:
    """What is left to train for each choice of frozen parts."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    parts = parts_of(model)
    counts = {}
    for freeze in FREEZES:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for part in freeze:
            for module in parts[part]:
                module.requires_grad_(False)
        counts[freeze] = sum(parameter.numel() for parameter, _ in flags if parameter.requires_grad)
    return counts


def assert_counted(architecture: Architecture, model) -> None:
    assert architecture.parameters == count(model)
    assert {freeze: architecture.trainable(freeze) for freeze in FREEZES} == trained_counts(model)


@pytest.mark.parametrize(("config", "task"), CASES, ids=lambda case: case if isinstance(case, str) else case["model_type"])
def test_teachers_and_students_are_counted_as_transformers_builds_them(config, task):
    teacher, model = architecture_of(config, task), build(config, task)
    assert_counted(teacher, model)
    depths = {"encoder_layers": teacher.encoder_layers, "decoder_layers": teacher.decoder_layers}
    sizes = {"d_model": teacher.d_model, "heads": None, "ffn_dim": None}
    for change in (
        {"encoder_layers": 1, "decoder_layers": 1},
        {"encoder_layers": 2, "decoder_layers": 5},
        {"d_model": 8, "heads": 2, "ffn_dim": 12},
        {"encoder_layers": 1, "ffn_dim": 7},
    ):
        student = teacher.shrunk(**{**depths, **sizes, **change})
        # As the runtime makes it: of the teacher's config as transformers holds it, old names resolved.
        base = {**model.config.to_dict(), "tie_word_embeddings": config.get("tie_word_embeddings", True)}
        assert_counted(student, build({**base, **student.changes(teacher)}, task))
        assert teacher.changed(student.family, student.changes(teacher)) == student


@pytest.mark.parametrize("family", ["bart", "bert", "roberta", "distilbert"])
@pytest.mark.parametrize("labels", [1, 2, 3, 7])
def test_classes_of_a_head(family, labels):
    config = {"model_type": family, **{"bart": BART, "distilbert": DISTILBERT}.get(family, BERT)}
    model = build(config, "classification", labels)
    assert_counted(architecture_of(config, "classification", labels), model)
    named = {**config, "id2label": {str(i): f"label {i}" for i in range(labels)}}
    assert architecture_of(named, "classification").num_labels == labels
    assert architecture_of(named, "classification").parameters == count(build(named, "classification"))


@pytest.mark.parametrize("task", ["masked-lm", "classification"])
@pytest.mark.parametrize("types", [0, 1, 2])
@pytest.mark.parametrize("change", [{}, {"encoder_layers": 1}, {"d_model": 8, "heads": 4, "ffn_dim": 10}])
def test_a_distilbert_made_of_a_bert(task, types, change):
    config = {"model_type": "bert", **BERT, "type_vocab_size": types}
    teacher = architecture_of(config, task)
    sizes = {"encoder_layers": 2, "decoder_layers": 0, "d_model": 16, "heads": None, "ffn_dim": None, **change}
    student = teacher.shrunk(family="distilbert", **sizes)
    model = build({"model_type": "distilbert", **student.changes(teacher)}, task)
    assert_counted(student, model)
    assert model.config.sinusoidal_pos_embds is False


def real_configs() -> list[tuple[str, str]]:
    names = sorted(str(file.parent.relative_to(MODELS)) for file in MODELS.glob("*/*/config.json"))
    found = [(name, task) for name in names for task in tasks_of(read_config(MODELS / name)["model_type"])]
    return found or [("facebook/bart-large", "summarization")]


def real(name: str) -> dict:
    if not (MODELS / name).is_dir():
        pytest.skip(f"{MODELS / name} is not there")
    return read_config(MODELS / name)


@pytest.mark.parametrize(("name", "task"), real_configs())
def test_counts_of_real_configs(name, task):
    config = real(name)
    assert_counted(architecture_of(config, task), build(config, task))


# --- published counts ------------------------------------------------------------------------------


def shrunk(teacher: Architecture, encoder: int, decoder: int, family: str | None = None) -> Architecture:
    return teacher.shrunk(
        encoder_layers=encoder, decoder_layers=decoder, d_model=teacher.d_model, heads=None, ffn_dim=None, family=family
    )  # fmt: skip


def millions(parameters: int) -> int:
    return round(parameters / 1e6)


@pytest.mark.parametrize("name", ["facebook/bart-large", "facebook/bart-large-cnn", "facebook/bart-large-xsum"])
def test_bart_sizes_of_tables_6_and_7(name):
    teacher = architecture_of(real(name))
    found = {
        (encoder, decoder): millions(shrunk(teacher, encoder, decoder).parameters)
        for encoder, decoder in ((12, 1), (6, 6), (12, 3), (9, 6), (12, 6), (12, 12))
    }
    assert found == {(12, 1): 222, (6, 6): 230, (12, 3): 255, (9, 6): 268, (12, 6): 306, (12, 12): 406}


def test_pegasus_sizes_of_tables_6_and_7():
    """The tables print one count for both data sets, and no one position table gives all three: 570 and 435
    are those of the XSUM checkpoint with its 512 positions, 369 is that of the CNN/DailyMail one with 1024
    (two tables of 512 x 1024 more: 1.05 million)."""
    xsum = architecture_of(real("google/pegasus-xsum"))
    cnn = architecture_of(CATALOGUE["google/pegasus-cnn_dailymail"])
    assert (xsum.max_positions, cnn.max_positions) == (512, 1024)
    assert cnn.parameters - xsum.parameters == 2 * 512 * 1024
    of_xsum, of_cnn = (
        {depth: millions(shrunk(teacher, 16, depth).parameters) for depth in (16, 8, 4)} for teacher in (xsum, cnn)
    )
    assert of_xsum == {16: 570, 8: 435, 4: 368}
    assert of_cnn == {16: 571, 8: 436, 4: 369}


def test_distilbert_has_66_million_without_its_head():
    """66M (arXiv 1910.01108, Table 3) counts no head; the published 110M of BERT-base counts its pooler."""
    for task in ("masked-lm", "classification"):
        teacher = architecture_of(real("google-bert/bert-base-uncased"), task)
        student = shrunk(teacher, 6, 0, "distilbert")
        assert millions(student.parameters - head_parameters(student)) == 66
        model = build({"model_type": "distilbert", **student.changes(teacher)}, task)
        assert count(model.distilbert) == student.parameters - head_parameters(student)
    published = architecture_of(real("distilbert/distilbert-base-uncased"), "masked-lm")
    assert shrunk(architecture_of(real("google-bert/bert-base-uncased"), "masked-lm"), 6, 0, "distilbert") == published


@pytest.mark.parametrize(("decoder", "expected"), [(1, 222), (3, 255), (6, 306)])
def test_a_classification_head_is_about_a_million(decoder, expected):
    teacher = architecture_of(real("facebook/bart-large-mnli"), "classification")
    student = shrunk(teacher, 12, decoder)
    assert head_parameters(student) == 1024 * 1024 + 1024 + 3 * 1025
    assert millions(student.parameters - head_parameters(student)) == expected


def test_what_is_trained_of_a_12_3_student():
    teacher = architecture_of({"model_type": "bart", "vocab_size": 50265})
    assert teacher.parameters == 406_291_456
    assert shrunk(teacher, 12, 3).trainable(PARTS) == 50_392_064
