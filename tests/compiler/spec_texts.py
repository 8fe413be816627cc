"""Small specs that compile without a diagnosis, for tests to change, and what the shipped ones look for."""

from __future__ import annotations

import json
from pathlib import Path

# What stands in shipped specs as ${paths.NAME}: data that lies in ../shared, and models.
DATA = {
    "multi30k": "multi30k", "rosts": "rosts_en_ro", "dialogsum": "dialogsum", "mnli_sample": "mnli_sample",
    "wikitext2": "wikitext2_part", "shakespeare": "tiny_shakespeare", "glue": "glue",
}  # fmt: skip
BERTS = {"minilm": (6, 384, 12, 512), "bert": (4, 128, 4, 128)}


def shipped_paths(folder: Path, data: Path | None = None) -> dict[str, Path]:
    """Name -> folder. `data`: the folder of all data (None: there is none). Models are written into `folder`: as
    much of them as a compiler reads."""
    paths = {name: (data or folder) / below for name, below in DATA.items()}
    for name, (layers, width, heads, positions) in BERTS.items():
        paths[name] = folder / name
        paths[name].mkdir(exist_ok=True)
        config = {
            "model_type": "bert", "architectures": ["BertModel"], "num_hidden_layers": layers, "hidden_size": width,
            "num_attention_heads": heads, "intermediate_size": 4 * width, "max_position_embeddings": positions,
            "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0,
        }  # fmt: skip
        (paths[name] / "config.json").write_text(json.dumps(config), "utf-8")
        (paths[name] / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "utf-8")
        (paths[name] / "model.safetensors").touch()
    return paths



SMALL = """
version: 1
name: small
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 3, decoder_layers: 6, d_model: 64, heads: 4, ffn_dim: 128}
  tokenizer: {vocab_size: 500}
  train: {}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins, limit: 100}
  validation: {builtin: bulletins, limit: 20}
  test: {builtin: bulletins, limit: 20}
"""
TINY = """\
version: 1
name: x
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 2, decoder_layers: 4, d_model: 64, heads: 2, ffn_dim: 128}
  tokenizer: {vocab_size: 500}
  train: {}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
"""
