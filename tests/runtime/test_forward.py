"""A forward pass stack by stack: of models with two stacks, and of one that has an encoder alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from distilc.runtime.models import families
from distilc.runtime.models.forward import capture_activations, label_logits, last_states, run_stack, with_inputs
from distilc.runtime.models.head import Head
from distilc.runtime.models.load import load_model
from distilc.runtime.objective.states import States

IDS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, 1]])
BATCH = {
    "input_ids": IDS,
    "attention_mask": (IDS != 1).long(),
    "labels": torch.tensor([[9, 8, 2], [7, 2, -100]]),
}


@pytest.mark.parametrize("family", ["bart", "marian", "t5"])
def test_stack_by_stack_it_is_the_whole_model(family: str, tiny_model_folder: Any) -> None:
    model = load_model(tiny_model_folder(family))
    with torch.no_grad():
        found = Head(model)(last_states(model, with_inputs(model, BATCH)))
        expected = label_logits(model, BATCH)
        whole = model(input_ids=IDS, attention_mask=BATCH["attention_mask"], labels=BATCH["labels"]).logits
    torch.testing.assert_close(expected, whole)
    valid = BATCH["labels"] != -100
    torch.testing.assert_close(found[valid], whole[valid], atol=1e-5, rtol=1e-5)


@pytest.fixture
def encoder_alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny BERT with its head over the vocabulary, and the row of its family."""
    from transformers import BertConfig, BertForMaskedLM

    row = replace(
        families.BART, model_type="bert", stacks={"encoder": "bert"}, depths={"encoder": "num_hidden_layers"},
        layer_list="encoder.layer", shared="bert.embeddings.word_embeddings", embed_tokens="embeddings.word_embeddings",
        positions="embeddings.position_embeddings", embedding_norm="embeddings.LayerNorm", head="cls.predictions.decoder",
        decoder_start=None, auto_class="AutoModelForMaskedLM",
    )  # fmt: skip
    monkeypatch.setattr(families, "FAMILIES", {"bert": row})
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(vocab_size=20, pad_token_id=1, **sizes)).eval()


def test_a_family_may_have_an_encoder_alone(encoder_alone: Any) -> None:
    model, batch = encoder_alone, {**BATCH, "labels": torch.tensor([[-100, 6, -100, -100], [8, -100, -100, -100]])}
    assert families.stacks(model) == ("encoder",) and families.depths(model) == {"encoder": 3}
    inputs = with_inputs(model, batch)
    assert "decoder_input_ids" not in inputs
    with torch.no_grad(), capture_activations(model, "encoder", outputs=(1, 2)) as captured:
        last = run_stack(model, "encoder", inputs, None)
        plain = model.bert(input_ids=IDS, attention_mask=batch["attention_mask"], output_hidden_states=True)
    torch.testing.assert_close(last, plain.last_hidden_state)
    torch.testing.assert_close(captured.outputs[1], plain.hidden_states[2])
    torch.testing.assert_close(last_states(model, inputs), plain.last_hidden_state)
    assert families.place(families.family_of(model), "bert.encoder.layer.2.output.dense.bias") == (
        "encoder", 2, "output.dense.bias",
    )  # fmt: skip


def test_what_terms_look_at_comes_from_the_stacks_that_there_are(encoder_alone: Any) -> None:
    needs = frozenset({"hidden", "embeddings", "last-state"})
    states = States(encoder_alone, None, needs, {"encoder": (0, 1)}, "outputs", frozen=())
    found = states.of(BATCH)
    outputs = found.student_outputs
    assert outputs.encoder_layers is not None and len(outputs.encoder_layers) == 2
    assert outputs.decoder_layers is None and outputs.decoder_embeddings is None
    assert outputs.encoder_embeddings is not None and outputs.last_state is found.student
    assert found.student.requires_grad and found.teacher is None
