"""Parameter counts from config.json alone against the models that transformers builds."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from distilc.compiler.architecture import (
    FAMILIES,
    Architecture,
    ArchitectureError,
    architecture_of,
    read_config,
)
from distilc.compiler.scratch import scratch_config

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
SEQ2SEQ = (
    "Helsinki-NLP/opus-mt-en-ro", "facebook/bart-base", "facebook/bart-large", "facebook/bart-large-cnn",
    "facebook/bart-large-mnli", "facebook/bart-large-xsum", "facebook/mbart-large-en-ro",
    "google-t5/t5-small", "google/flan-t5-base", "google/pegasus-xsum",
)  # fmt: skip

BART = {
    "vocab_size": 100, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 24, "max_position_embeddings": 20,
}  # fmt: skip
T5 = {
    "vocab_size": 100, "d_model": 16, "d_kv": 6, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 2, "relative_attention_num_buckets": 12,
}  # fmt: skip
MARIAN = {
    "model_type": "marian", **BART, "pad_token_id": 1, "eos_token_id": 0, "decoder_start_token_id": 1,
    "forced_eos_token_id": 0,
}  # fmt: skip
CONFIGS = [
    *({"model_type": family, **BART, "encoder_layers": e, "decoder_layers": d}
      for family in ("bart", "mbart", "pegasus") for e, d in ((3, 2), (1, 1))),
    *({"model_type": name, **BART, "tie_word_embeddings": False} for name in ("bart", "mbart", "pegasus")),
    {**MARIAN, "decoder_vocab_size": 100},
    {**MARIAN, "decoder_vocab_size": 100, "tie_word_embeddings": False},
    {**MARIAN, "decoder_vocab_size": 90, "share_encoder_decoder_embeddings": False},
    {**MARIAN, "decoder_vocab_size": 90, "share_encoder_decoder_embeddings": False,
     "tie_word_embeddings": False},
    {"model_type": "t5", **T5},
    {"model_type": "t5", **T5, "feed_forward_proj": "gated-gelu"},
    {"model_type": "t5", **T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    {"model_type": "t5", **{key: value for key, value in T5.items() if key != "num_decoder_layers"}},
    {"model_type": "t5"},
    {"model_type": "bart", "d_model": 32},
    {"model_type": "bart", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    {"model_type": "t5", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 3},
]  # fmt: skip


def build(config: dict):
    """The model that transformers builds, on the meta device, the legacy layer count left out."""
    import torch
    import transformers

    classes = {
        "bart": transformers.BartForConditionalGeneration,
        "marian": transformers.MarianMTModel,
        "mbart": transformers.MBartForConditionalGeneration,
        "pegasus": transformers.PegasusForConditionalGeneration,
        "t5": transformers.T5ForConditionalGeneration,
    }
    dropped = {"model_type", *(["num_hidden_layers"] if "encoder_layers" in config else [])}
    kept = {key: value for key, value in config.items() if key not in dropped}
    cls = classes[config["model_type"]]
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls(cls.config_class(**kept))
    if config["model_type"] == "t5" and config.get("tie_word_embeddings") is False:
        # from_pretrained keeps the separate head of a T5 v1.1 checkpoint; a model from its config is tied
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def frozen_count(model, freeze) -> int:
    """Freeze by module, the way the words are meant, and count what is left."""
    core = getattr(model, "model", model)
    if "encoder" in freeze:
        core.encoder.requires_grad_(False)
    embeddings = [getattr(core, "shared", None), core.encoder.embed_tokens, core.decoder.embed_tokens]
    positions = [
        getattr(core.encoder, "embed_positions", None),
        getattr(core.decoder, "embed_positions", None),
    ]
    for part, modules in (("embeddings", embeddings), ("positions", positions)):
        for module in modules:
            if part in freeze and module is not None:
                module.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config['model_type']}-{len(config)}")
@pytest.mark.parametrize(
    "freeze", [(), ("encoder",), ("embeddings",), ("positions",), ("encoder", "embeddings", "positions")]
)
def test_counts_equal_those_of_transformers(config, freeze):
    model = build(config)
    architecture = architecture_of(config)
    assert architecture.parameters == count(model)
    assert architecture.trainable(freeze) == frozen_count(model, freeze)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_counts_of_real_configs(name):
    if not (MODELS / name).is_dir():
        pytest.skip(f"{MODELS / name} is not there")
    config = read_config(MODELS / name)
    model = build(config)
    architecture = architecture_of(config)
    assert architecture.parameters == count(model)
    assert architecture.trainable(()) == frozen_count(model, ())
    assert architecture.trainable(("encoder", "embeddings", "positions")) == frozen_count(
        model, ("encoder", "embeddings", "positions")
    )


def bart_large() -> Architecture:
    return architecture_of({"model_type": "bart", "vocab_size": 50265})


def depths(architecture: Architecture, encoder: int, decoder: int) -> Architecture:
    return architecture.shrunk(
        encoder_layers=encoder, decoder_layers=decoder, d_model=architecture.d_model, heads=None, ffn_dim=None
    )


@pytest.mark.parametrize(
    ("encoder", "decoder", "millions"),
    [(12, 12, 406), (12, 6, 306), (12, 3, 255), (12, 1, 222), (9, 6, 268), (6, 6, 230)],
)
def test_bart_sizes_of_the_paper(encoder, decoder, millions):
    assert round(depths(bart_large(), encoder, decoder).parameters / 1e6) == millions


@pytest.mark.parametrize(("decoder", "millions"), [(16, 570), (8, 435), (4, 369)])
def test_pegasus_sizes_of_the_paper(decoder, millions):
    pegasus = architecture_of(
        {
            "model_type": "pegasus",
            "vocab_size": 96103,
            "encoder_layers": 16,
            "decoder_layers": 16,
            "max_position_embeddings": 512,
        }
    )
    found = depths(pegasus, 16, decoder).parameters / 1e6
    assert abs(found - millions) < 1.0, found


def test_bart_large_exactly():
    assert bart_large().parameters == 406_291_456
    assert depths(bart_large(), 12, 3).trainable(("encoder", "embeddings", "positions")) == 50_392_064


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


@pytest.mark.parametrize(
    "config", [config for config in CONFIGS if config.get("tie_word_embeddings", True)][:8]
)
def test_a_changed_config_builds_what_was_counted(config):
    teacher = architecture_of(config)
    student = teacher.shrunk(encoder_layers=1, decoder_layers=1, d_model=8, heads=2, ffn_dim=12)
    assert student.parameters == count(build({**config, **student.changes(teacher)}))


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
    assert count(model) == architecture_of({"model_type": family, **config}).parameters
    assert len(model.get_encoder().layers if family != "t5" else model.encoder.block) == 2
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    labels = torch.tensor([[5, 6, 7, 1]])
    loss = model(input_ids=torch.tensor([[5, 6, 7, 1]]), labels=labels).loss
    loss.backward()
    assert loss.item() > 0
    output = model.generate(torch.tensor([[5, 6, 1]]), max_new_tokens=4, num_beams=1)
    assert output[0, 0].item() == (1 if family == "bart" else 0)
    assert model.config.to_dict()["dropout_rate" if family == "t5" else "dropout"] == 0.2


def refusal(call) -> ArchitectureError:
    with pytest.raises(ArchitectureError) as caught:
        call()
    return caught.value


def test_other_families_are_named():
    for config in ({"model_type": "bert"}, {}):
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
