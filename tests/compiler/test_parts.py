"""Model folders whose parts do not go together are found from their JSON, before anything is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOKENIZERS = ROOT.parent / "shared" / "tokenizers"
BART = {"model_type": "bart", "vocab_size": 8, "d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 2048}  # fmt: skip
T5 = {"model_type": "t5", "vocab_size": 8, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
      "decoder_start_token_id": 0}  # fmt: skip
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "c", "d"]
SPEC = """
version: 1
name: small
task: summarization
teacher: {path: ./model}
student: {decoder_layers: 1}
data:
  train: {builtin: bulletins, split: train, limit: 100}
  validation: {builtin: bulletins, split: validation, limit: 10}
  test: {builtin: bulletins, split: test, limit: 10}
"""


@pytest.fixture
def found(compile_text: Callable[..., Any], tmp_path: Path) -> Callable[..., list[Any]]:
    """(config, file name -> content) -> what is reported of a folder with these and weights: (code, message)."""

    def look(config: dict[str, Any] | None, **files: Any) -> list[Any]:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config), "utf-8")
            write_weights(folder / "model.safetensors", {"w": "F32"})
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
        lowered = compile_text(text=SPEC)
        assert all(d.path.startswith("teacher") for d in lowered.diagnostics), lowered.diagnostics
        return [(d.code, d.message) for d in lowered.diagnostics]

    return look


def write_weights(file: Path, types: dict[str, str]) -> None:
    header = json.dumps({name: {"dtype": kind, "shape": [], "data_offsets": [0, 8]} for name, kind in types.items()}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def vocabulary(tokens: list[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate(tokens)}


def tokenizer_json(tokens: list[str], *added: str, unigram: bool = False) -> dict[str, Any]:
    model = {"type": "Unigram", "vocab": [[t, 0.0] for t in tokens]} if unigram else {"type": "BPE", "vocab": vocabulary(tokens)}
    extra = [{"id": len(tokens) + i, "content": token, "special": False} for i, token in enumerate(added)]
    return {"model": model, "added_tokens": extra}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer": tokenizer_json(TOKENS, "<speaker>")},
        {"tokenizer": tokenizer_json(TOKENS, "<speaker>", unigram=True)},
        {"tokenizer": tokenizer_json([*TOKENS, "<speaker>"])},
        {"vocab": vocabulary(TOKENS), "added_tokens": {"<speaker>": 8}},
        {"tokenizer_config": {"added_tokens_decoder": {"8": {"content": "<speaker>"}}}},
        {"vocab": vocabulary(TOKENS), "target_vocab": vocabulary([*TOKENS, "<speaker>"])},
    ],
)
def test_tokens_without_an_embedding(found: Callable[..., list[Any]], files: dict[str, Any]) -> None:
    ((code, message),) = found(BART, **files)
    assert code == "E537" and "'<speaker>' is 8, and config.json says vocab_size 8" in message
    assert found({**BART, "vocab_size": 9}, **files) == []


def test_a_mask_is_no_token_of_a_text(found: Callable[..., list[Any]]) -> None:
    assert found(BART, tokenizer=tokenizer_json(TOKENS, "<mask>")) == []
    other = {"mask_token": {"content": "<mask_1>"}}
    assert found(BART, tokenizer=tokenizer_json(TOKENS, "<mask_1>"), tokenizer_config=other) == []


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        ({k: v for k, v in T5.items() if k != "decoder_start_token_id"}, {}, "does not say which token starts"),
        ({**BART, "decoder_start_token_id": None}, {}, "does not say which token starts"),
        ({**BART, "pad_token_id": None}, {}, "no padding token"),
        ({**BART, "eos_token_id": 8}, {}, "eos_token_id is 8 in config.json, and the vocabulary has 8 tokens"),
        (BART, {"generation_config": {"forced_bos_token_id": 9}}, "forced_bos_token_id is 9 in generation_config.json"),
        ({**BART, "eos_token_id": "</s>"}, {}, "eos_token_id is '</s>' in config.json"),
        ({**BART, "pad_token_id": 0}, {"vocab": vocabulary(TOKENS)}, "pad_token_id is 0 in config.json, and '<pad>' is 1"),
        (BART | {"eos_token_id": 2}, {"tokenizer": tokenizer_json(["<pad>", "</s>", "<unk>"], unigram=True)}, "eos_token_id is 2"),
    ],
)
def test_special_tokens_that_do_not_fit(found: Callable[..., list[Any]], config: Any, files: Any, said: str) -> None:
    ((code, message),) = found(config, **files)
    assert code == "E538" and said in message


def test_a_config_alone_is_a_shape(found: Callable[..., list[Any]], tmp_path: Path) -> None:
    """A plan can be made before the model is there."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({k: v for k, v in T5.items() if k != "decoder_start_token_id"}))
    assert [code for code, _ in found(None)] == ["W575"]


def test_an_adapter_is_to_be_merged_first(found: Callable[..., list[Any]], tmp_path: Path) -> None:
    ((code, message),) = found(None, adapter_config={"base_model_name_or_path": "google-t5/t5-small"})
    assert code == "E536" and "google-t5/t5-small" in message
    found(BART)
    (tmp_path / "model" / "model.safetensors").unlink()
    assert "E536" in [code for code, _ in found(None)]
    assert found(BART) == []  # merged: the adapter's config was left behind


@pytest.mark.parametrize("kind", ["I64", "I8", "U8", "F8_E4M3", "BOOL"])
def test_weights_that_are_no_floats(found: Callable[..., list[Any]], tmp_path: Path, kind: str) -> None:
    found(BART)
    file = tmp_path / "model" / "model.safetensors"
    write_weights(file, {"a.weight": "F32", "b.weight": kind, "model.position_ids": "I64"})
    assert [code for code, _ in found(None)] == ["E539"]
    write_weights(file, {"a.weight": "BF16", "b.weight": "F16", "model.position_ids": "I64"})
    assert found(None) == []


def test_a_shard_that_is_missing(found: Callable[..., list[Any]], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    found(BART, **{"model.safetensors.index": {"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}})
    write_weights(folder / "model-1.safetensors", {"w": "F32"})
    assert found(None) == []  # one file has everything
    (folder / "model.safetensors").unlink()
    ((code, message),) = found(None)
    assert code == "E535" and "'model-2.safetensors'" in message
    write_weights(folder / "model-2.safetensors", {"v": "F32"})
    assert found(None) == []


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the real tokenizers are not here")
@pytest.mark.parametrize("name", ["marian_en_mg", "pegasus"])
def test_published_tokenizers_fit_their_models(found: Callable[..., list[Any]], name: str) -> None:
    files = {file.stem: json.loads(file.read_text("utf-8")) for file in (TOKENIZERS / name).glob("*.json")}
    assert found(files.pop("config"), **files) == []
