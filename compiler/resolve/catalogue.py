"""What is known of well-known models without having them: the fields of config.json that decide their shape.

So `check`, `explain` and `compile` can say what a model is on a machine that has neither it nor a network. A
model that is there, or a hub that answers, always comes first. Only facts that `architecture_of` and the
checks of heads read are kept; a test holds them to real config.json files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BART_LARGE = {
    "model_type": "bart",
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
    "vocab_size": 50265,
}
_MBART_LARGE = {**_BART_LARGE, "model_type": "mbart", "vocab_size": 250027}
# The position table of google/pegasus-xsum ends at 512; those of the others have 1024 rows.
_PEGASUS_LARGE = {
    **_BART_LARGE,
    "model_type": "pegasus",
    "encoder_layers": 16,
    "decoder_layers": 16,
    "vocab_size": 96103,
}
_MARIAN = {
    **_BART_LARGE,
    "model_type": "marian",
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "max_position_embeddings": 512,
}
_BERT_BASE = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_ROBERTA_BASE = {
    **_BERT_BASE,
    "model_type": "roberta",
    "architectures": ["RobertaForMaskedLM"],
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
_DISTILBERT_BASE = {
    "model_type": "distilbert",
    "architectures": ["DistilBertForMaskedLM"],
    "vocab_size": 30522,
    "dim": 768,
    "n_layers": 6,
    "n_heads": 12,
    "hidden_dim": 3072,
    "max_position_embeddings": 512,
}

CATALOGUE: Mapping[str, Mapping[str, Any]] = {
    "FacebookAI/roberta-base": _ROBERTA_BASE,
    "Helsinki-NLP/opus-mt-en-ro": {**_MARIAN, "vocab_size": 59543},
    "bert-base-uncased": _BERT_BASE,
    "distilbert-base-uncased": _DISTILBERT_BASE,
    "distilbert/distilbert-base-uncased": _DISTILBERT_BASE,
    "facebook/bart-large": _BART_LARGE,
    "facebook/bart-large-cnn": {**_BART_LARGE, "vocab_size": 50264},
    "facebook/bart-large-mnli": {
        **_BART_LARGE,
        "architectures": ["BartForSequenceClassification"],
        "num_labels": 3,
        "id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"},
    },
    "facebook/bart-large-xsum": {**_BART_LARGE, "vocab_size": 50264},
    "facebook/mbart-large-cc25": _MBART_LARGE,
    "facebook/mbart-large-en-ro": _MBART_LARGE,
    "google-bert/bert-base-uncased": _BERT_BASE,
    "google/pegasus-cnn_dailymail": _PEGASUS_LARGE,
    "google/pegasus-large": _PEGASUS_LARGE,
    "google/pegasus-xsum": {**_PEGASUS_LARGE, "max_position_embeddings": 512},
    "roberta-base": _ROBERTA_BASE,
    "sshleifer/pegasus-cnn-ft-v2": _PEGASUS_LARGE,
}


def catalogued(repository: str) -> Mapping[str, Any] | None:
    """The facts of a well-known model of the hub; None: it is not among them."""
    return CATALOGUE.get(repository)
