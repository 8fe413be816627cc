"""The facts of a config.json, and which configs are refused."""

import json
from types import SimpleNamespace

import pytest

from distilc.compiler.extensions.builtin_families import OURS
from distilc.compiler.extensions.families import FAMILIES, families_for, tasks_of
from distilc.compiler.resolve.architecture import Architecture
from distilc.compiler.resolve.model_config import ArchitectureError, architecture_of, labels_of, read_config
from distilc.compiler.resolve.scratch import scratch_config
from distilc.compiler.tasks.task import TASKS

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


def depths(architecture: Architecture, encoder: int, decoder: int) -> Architecture:
    return architecture.shrunk(
        encoder_layers=encoder, decoder_layers=decoder, d_model=architecture.d_model, heads=None, ffn_dim=None
    )


def test_encoder_layers_win_over_the_legacy_count():
    found = architecture_of({"model_type": "bart", **BART, "num_hidden_layers": 12})
    assert found.encoder_layers == 3
    assert found.legacy_layers == 12


def test_changes_name_the_fields_of_the_family():
    teacher = architecture_of({"model_type": "t5", **T5})
    assert depths(teacher, 3, 1).changes(teacher) == {"num_layers": 3, "num_decoder_layers": 1}
    narrow = teacher.shrunk(encoder_layers=3, decoder_layers=2, d_model=8, heads=1, ffn_dim=10)
    assert narrow.changes(teacher) == {
        "num_layers": 3,
        "num_decoder_layers": 2,
        "d_model": 8,
        "num_heads": 1,
        "d_ff": 10,
    }
    bart = architecture_of({"model_type": "bart", **BART})
    assert depths(bart, 3, 1).changes(bart) == {"encoder_layers": 3, "decoder_layers": 1}


def test_the_config_of_another_family_has_all_sizes():
    teacher = architecture_of({"model_type": "bert", **BERT}, "masked-lm")
    student = teacher.shrunk(
        family="distilbert", encoder_layers=2, decoder_layers=0, d_model=16, heads=None, ffn_dim=None
    )
    assert student.changes(teacher) == {
        "n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 24, "vocab_size": 100, "max_position_embeddings": 20,
        "sinusoidal_pos_embds": False,
    }  # fmt: skip
    assert (student.token_types, student.decoder_layers, student.size) == (0, 0, "2")


@pytest.mark.parametrize(
    ("family", "task", "head"),
    [
        ("bart", "summarization", "lm"),
        ("bart", "classification", "classification"),
        ("bert", "masked-lm", "masked-lm"),
        ("distilbert", "classification", "classification"),
        ("roberta", "masked-lm", "masked-lm"),
        ("t5", "translation", "lm"),
    ],
)
def test_the_task_decides_the_head_whatever_the_file_was_saved_from(family, task, head):
    for classes in (["BertForMaskedLM"], ["BartForConditionalGeneration"], ["RobertaForSequenceClassification"], None):
        assert architecture_of({"model_type": family, "architectures": classes}, task).head == head


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_cannot_do_a_task_is_told_who_can(family, task):
    able = families_for(TASKS[task].head)
    if task in tasks_of(family):
        assert family in able
        assert architecture_of({"model_type": family}, task).family == family
        return
    error = refusal(lambda: architecture_of({"model_type": family}, task))
    assert error.code == "E531"
    assert family in error.message and task in error.message
    assert all(name in error.hint for name in (*able, *tasks_of(family)))


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({}, {"bart": 3, "bert": 2, "distilbert": 2, "roberta": 2}),
        ({"num_labels": 5}, 5),
        ({"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}}, 4),
        ({"num_labels": 5, "id2label": {"0": "a", "1": "b"}}, 5),
        ({"num_labels": None, "id2label": {"0": "a"}}, 1),
    ],
)
@pytest.mark.parametrize("family", ["bart", "bert", "distilbert", "roberta"])
def test_labels_are_counted_as_transformers_counts_them(family, config, labels):
    import transformers

    expected = labels[family] if isinstance(labels, dict) else labels
    assert labels_of({"model_type": family, **config}) == expected
    kept = {key: value for key, value in config.items() if value is not None}
    assert transformers.CONFIG_MAPPING[family](**kept).num_labels == expected


def test_a_head_has_the_labels_of_the_data_where_they_are_given():
    config = {"model_type": "bert", **BERT, "num_labels": 5}
    assert architecture_of(config, "classification").num_labels == 5
    assert architecture_of(config, "classification", 3).num_labels == 3
    assert architecture_of(config, "masked-lm", 3).num_labels == 0
    assert architecture_of(config, "classification", 3).num_logits == 3
    assert architecture_of(config, "masked-lm").num_logits == 100


def test_positions_of_roberta_are_those_that_a_token_can_have():
    for padding in (0, 1, 4):
        found = architecture_of({"model_type": "roberta", **BERT, "pad_token_id": padding}, "masked-lm")
        assert (found.max_positions, found.spare_positions) == (20 - padding - 1, padding + 1)
    assert refusal(
        lambda: architecture_of({"model_type": "roberta", **BERT, "max_position_embeddings": 2}, "masked-lm")
    ).code == "E502"  # fmt: skip


@pytest.mark.parametrize("family", ["bart", "marian", "pegasus", "t5"])
def test_scratch_configs_build_a_model_that_trains(family):
    import torch
    import transformers

    asked = SimpleNamespace(
        family=family,
        encoder_layers=2,
        decoder_layers=1,
        d_model=16,
        heads=4,
        ffn_dim=24,
        dropout=0.2,
        max_positions=32,
    )
    config = scratch_config(asked, 40)
    cls = {
        "bart": transformers.BartForConditionalGeneration,
        "marian": transformers.MarianMTModel,
        "pegasus": transformers.PegasusForConditionalGeneration,
        "t5": transformers.T5ForConditionalGeneration,
    }[family]
    model = cls(cls.config_class(**config))
    assert model.num_parameters() == architecture_of({"model_type": family, **config}).parameters
    assert len(model.get_encoder().layers if family != "t5" else model.encoder.block) == 2
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    labels = torch.tensor([[5, 6, 7, 1]])
    loss = model(input_ids=torch.tensor([[5, 6, 7, 1]]), labels=labels).loss
    loss.backward()
    assert loss.item() > 0
    output = model.generate(torch.tensor([[5, 6, 1]]), max_new_tokens=4, num_beams=1)
    assert output[0, 0].item() == (1 if family == "bart" else 0)
    assert model.config.to_dict()["dropout_rate" if family == "t5" else "dropout"] == 0.2


@pytest.mark.parametrize("task", ["masked-lm", "classification"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_an_encoder_from_scratch_is_what_transformers_builds(family, task):
    """As many parameters, special tokens as the trained tokenizer has them, and as many positions as asked for."""
    import torch
    import transformers

    asked = SimpleNamespace(family=family, encoder_layers=3, decoder_layers=None, d_model=16, heads=4, ffn_dim=24, dropout=0.2, max_positions=32)
    config = scratch_config(asked, 40)
    facts = architecture_of({"model_type": family, **config}, task, 5)
    auto = transformers.AutoModelForMaskedLM if task == "masked-lm" else transformers.AutoModelForSequenceClassification
    built = transformers.CONFIG_MAPPING[family](**config, num_labels=5)
    model = auto.from_config(built).train()
    assert model.num_parameters() == facts.parameters
    assert (facts.max_positions, facts.encoder_layers, facts.decoder_layers) == (32, 3, 0)
    ends = {"roberta": (0, 3, 1)}.get(family, (0, None, None))
    assert (built.pad_token_id, built.bos_token_id, built.eos_token_id) == ends
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates - {0.0} == {0.2}  # no other dropout than the one that was asked for
    whole = torch.full((1, 32), 7)
    model.eval()
    assert model(input_ids=whole).logits.shape == ((1, 32, 40) if task == "masked-lm" else (1, 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, 33), 7))


def refusal(call) -> ArchitectureError:
    with pytest.raises(ArchitectureError) as caught:
        call()
    return caught.value


def test_other_families_are_named():
    for config in ({"model_type": "gpt2"}, {"model_type": ["bart"]}, {}):
        error = refusal(lambda config=config: architecture_of(config))
        assert error.code == "E503"
        assert all(family in error.hint for family in FAMILIES)


@pytest.mark.parametrize(
    "text", ['{"model_type": "bart", "d_mo', "[1, 2]", "", '{"model_type": "bart", "d_model": "wide"}']
)
def test_damaged_configs(tmp_path, text):
    (tmp_path / "config.json").write_text(text, "utf-8")
    assert refusal(lambda: architecture_of(read_config(tmp_path))).code == "E502"


def test_missing_and_undecodable_configs(tmp_path):
    assert refusal(lambda: read_config(tmp_path)).code == "E502"
    (tmp_path / "config.json").write_bytes(json.dumps({"model_type": "bart"}).encode("utf-16"))
    assert refusal(lambda: read_config(tmp_path)).code == "E502"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"family": "gpt2"}, "E503"),
        ({"family": "mbart"}, "E504"),
        ({"decoder_layers": None}, "E202"),
        ({"heads": 3}, "E505"),
        ({"d_model": 15, "heads": 3}, "E505"),
    ],
)
def test_scratch_refusals(change, code):
    asked = {
        "family": "marian",
        "encoder_layers": 2,
        "decoder_layers": 1,
        "d_model": 16,
        "heads": 4,
        "ffn_dim": 24,
        "dropout": 0.1,
        "max_positions": 32,
    }
    assert refusal(lambda: scratch_config(SimpleNamespace(**{**asked, **change}), 40)).code == code


def test_a_row_alone_says_how_a_family_is_built_from_scratch(monkeypatch):
    monkeypatch.setitem(OURS, "roberta", OURS["roberta"]._replace(scratch={"hidden_act": "gelu"}, dropout_field="hidden_dropout_prob"))
    asked = SimpleNamespace(family="roberta", encoder_layers=2, decoder_layers=None, d_model=16, heads=4, ffn_dim=24, dropout=0.2, max_positions=32)
    config = scratch_config(asked, 40)
    assert config == {
        "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
        "max_position_embeddings": 34, "hidden_act": "gelu", "hidden_dropout_prob": 0.2,
    }
    assert architecture_of({"model_type": "roberta", **config}, "masked-lm").max_positions == 32
    asked.decoder_layers = 1
    assert refusal(lambda: scratch_config(asked, 40)).code == "E533"


JUNK = [None, True, -1, 0, 1.5, "", "wide", [], ["x"], {}, {"²": 1}, {"0": None}, 10**6, 10**4000, float("nan")]


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_a_config_says_is_a_model_or_a_diagnosis(family):
    fields = [field for field, _ in FAMILIES[family].fields.values()]
    fields += ["model_type", "num_labels", "id2label", "pad_token_id", "d_kv", "feed_forward_proj", "architectures",
               "tie_word_embeddings", "share_encoder_decoder_embeddings", "decoder_vocab_size", "num_hidden_layers"]  # fmt: skip
    for field in fields:
        for junk in JUNK:
            for task in tasks_of(family):
                try:
                    found = architecture_of({"model_type": family, field: junk}, task)
                except ArchitectureError as error:
                    assert error.code in ("E502", "E503") and error.hint
                    assert len(error.message) < 300
                else:
                    assert f"{found.parameters:,}" and found.encoder_layers <= 1000
