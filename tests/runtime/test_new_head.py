"""An existing model for another task than it was saved for: everything but the head is its own, the head is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.failure import Failure
from distilc.runtime.models import families
from distilc.runtime.models.build import build
from distilc.runtime.models.load import load_tokenizer, load_with_new_head
from distilc.runtime.models.save import save_model

SIZES: dict[str, dict[str, Any]] = {
    "bart": {
        "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    },
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
}  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, int | None], Path]:
    """(family, classes or None) -> the folder of a model with that head."""

    def make(family: str, classes: int | None) -> Path:
        tokenizer = tmp_path / f"tokenizer-{family}"
        train_tokenizer(["a few words to learn from"] * 4, "bpe", 320, families.FAMILIES[family], 64).save_pretrained(tokenizer)
        config = {"vocab_size": 330, "max_position_embeddings": 66, **SIZES[family]}
        save_model(build(family, config, 1, load_tokenizer(tokenizer), classes), tmp_path / family, tokenizer=tokenizer)
        return tmp_path / family

    return make


@pytest.mark.parametrize("family", [*SIZES])
@pytest.mark.parametrize("classes", [None, 2])
def test_the_head_is_drawn_and_the_rest_is_kept(family: str, classes: int | None, saved: Any) -> None:
    folder = saved(family, classes)
    before = load_file(folder / "model.safetensors")
    state = torch.random.get_rng_state()
    one, again, other = (load_with_new_head(folder, 3, seed) for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert families.classifies(one) and one.config.num_labels == 3 and families.head(one).out_features == 3
    weights: list[torch.Tensor] = [families.head(model).weight for model in (one, again, other)]  # type: ignore[misc]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    kept = [name for name in one.state_dict() if name in before and before[name].shape == one.state_dict()[name].shape]
    body = [name for name in kept if families.place(families.FAMILIES[family], name) is not None]
    assert len({families.place(families.FAMILIES[family], name)[1] for name in body}) == 2  # type: ignore[index]
    assert all(torch.equal(one.state_dict()[name], before[name]) for name in body)


def test_nothing_but_the_head_is_drawn(saved: Any) -> None:
    folder = saved("bert", None)
    weights = load_file(folder / "model.safetensors")
    lacking = {name: tensor for name, tensor in weights.items() if "encoder.layer.1" not in name}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Failure, match="which would be random") as caught:
        load_with_new_head(folder, 3, 7)
    assert caught.value.code == "R225"
