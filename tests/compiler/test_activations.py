"""What a micro-batch keeps, against what autograd really saves in transformers' models."""

import pytest

from distilc.compiler.estimates.activations import HEAD_CHUNK_BYTES, batch_memory, token_mixes
from distilc.compiler.estimates.workload import Teaching, Workload
from distilc.compiler.resolve.model_config import architecture_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from distilc.runtime.models.checkpointing import keep_inputs_alone  # noqa: E402

pytestmark = pytest.mark.slow

ROWS, LENGTH = 4, 24  # of source and target alike
BART = {
    "model_type": "bart", "d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": 100,
    "max_position_embeddings": 64,
}  # fmt: skip
T5 = {
    "model_type": "t5", "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 256, "num_layers": 2,
    "num_decoder_layers": 3, "vocab_size": 100, "decoder_start_token_id": 0,
}  # fmt: skip


def load(config, **changes) -> Workload:
    facts = {
        "architecture": architecture_of(config), "freeze": (), "precision": "fp32", "optimizer": "adamw",
        "offload": "none", "world": 1, "per_node": 1, "device": "cuda", "memory_gb": None, "lengths": (LENGTH, LENGTH),
    }  # fmt: skip
    return Workload(**{**facts, **changes})


def saved_bytes(config, dtype, length, checkpointing=False) -> int:
    """Bytes of the storages that autograd saves in a forward pass up to the last hidden states."""
    values = {name: value for name, value in config.items() if name != "model_type"}
    family = config["model_type"]
    kind, of_config = {
        "bart": (transformers.BartModel, transformers.BartConfig),
        "t5": (transformers.T5Model, transformers.T5Config),
    }[family]
    torch.manual_seed(0)
    model = kind(of_config(**values)).to(dtype).train()
    if checkpointing:
        keep_inputs_alone(model)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    seen, kept = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # an address is not used again while its storage lives
        return tensor

    ids = torch.randint(3, 100, (ROWS, length)), torch.randint(3, 100, (ROWS, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids[0], decoder_input_ids=ids[1], use_cache=False)
    return sum(seen.values())


def saved_by_a_layer(config, dtype, field, checkpointing=False) -> float:
    """What one layer more of a stack adds, without what grows with the square of the length: the attention
    maps, which kernels of a CPU keep and those of a GPU do not. Of a n + b n^2 it is a n."""
    more = {**config, field: config[field] + 1}
    short, long = (
        saved_bytes(more, dtype, n, checkpointing) - saved_bytes(config, dtype, n, checkpointing)
        for n in (LENGTH, 2 * LENGTH)
    )
    return (4 * short - long) / 2


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("config", "encoder", "decoder"),
    [
        (BART, "encoder_layers", "decoder_layers"),
        (T5, "num_layers", "num_decoder_layers"),
        ({**T5, "feed_forward_proj": "gated-gelu"}, "num_layers", "num_decoder_layers"),
    ],
    ids=["bart", "t5", "gated t5"],
)
def test_a_layer_keeps_what_autograd_saves(config, encoder, decoder, precision, checkpointing):
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    tokens = ROWS * 2 * LENGTH

    def estimated(config) -> int:
        return batch_memory(load(config, precision=precision, checkpointing=checkpointing), tokens).activations

    for field in (encoder, decoder):
        more = {**config, field: config[field] + 1}
        saved = saved_by_a_layer(config, dtype, field, checkpointing)
        assert estimated(more) - estimated(config) == pytest.approx(saved, rel=0.05), field
        if checkpointing:  # its input, half of the tokens being the stack's
            assert saved == tokens // 2 * 64 * dtype.itemsize


def test_with_checkpointing_one_layer_at_a_time_is_whole():
    """Each layer's input, and of the largest, a decoder layer with its keys and values of the source, the rest."""
    states = 500 * 64 * 4
    decoder_layer = 500 * (15 * 64 + 2 * 256) * 4 + 500 * 2 * 64 * 4
    of_all = batch_memory(load(BART, checkpointing=True), 1000).activations
    assert of_all == (2 + 3) * states + decoder_layer
    assert batch_memory(load(BART), 1000).activations == 2 * 500 * (10 * 64 + 2 * 256) * 4 + 3 * decoder_layer
    frozen = load(BART, freeze=("encoder", "embeddings", "positions"), checkpointing=True)
    assert batch_memory(frozen, 1000).activations == (1 + 3) * states + decoder_layer  # the encoder's output


def test_maps_that_a_term_reads_are_kept_all_the_same():
    def activations(checkpointing: bool, *terms: str) -> int:
        teaching = Teaching(architecture=architecture_of(BART), needs=frozenset(terms), shared_encoder=False)
        return batch_memory(load(BART, teaching=teaching, checkpointing=checkpointing), 1000).activations

    kept, again = (activations(on, "attention") - activations(on) for on in (False, True))
    maps = 500 * 4 * (2 * 24 + 3 * 48) * 4  # tokens, heads, keys of every layer
    assert (kept, again) == (4 * maps, 2 * maps)


def test_a_frozen_encoder_keeps_its_output_alone():
    trained, frozen = load(BART), load(BART, freeze=("encoder", "embeddings", "positions"))
    assert batch_memory(frozen, 4096).activations < batch_memory(trained, 4096).activations
    deep = {**BART, "encoder_layers": 20}
    of_deep = load(deep, freeze=("encoder", "embeddings", "positions"))
    assert batch_memory(of_deep, 4096).activations == batch_memory(frozen, 4096).activations


def test_logits_are_counted_for_the_targets_at_their_vocabulary():
    shape = architecture_of(BART)
    of_labels = batch_memory(load(BART), 1000).logits
    assert of_labels == 500 * 100 * 4 * 3
    teaching = Teaching(architecture=shape, needs=frozenset({"logits"}), shared_encoder=True)
    assert batch_memory(load(BART, teaching=teaching), 1000).logits > 2 * of_labels


def test_the_mix_that_takes_most_is_what_counts():
    """Half targets where logits are large, as the limits say where the encoder is."""
    long_sources = load(BART, lengths=(900, 100))
    halves, limits = token_mixes(long_sources.architecture, 1000, (900, 100))
    assert (halves.source, halves.target) == (500, 500)
    assert (limits.source, limits.target) == (900, 100)
    large = load({**BART, "vocab_size": 50_000}, lengths=(900, 100))
    # the head takes a chunk of the target tokens at a time
    assert batch_memory(large, 1000).logits == HEAD_CHUNK_BYTES // (24 * 50_000) * 50_000 * 4 * 3
    deep = load({**BART, "encoder_layers": 200}, lengths=(900, 100))
    assert batch_memory(deep, 1000).logits == 100 * 100 * 4 * 3


def test_the_chunks_of_the_head_are_the_runtimes():
    from distilc.runtime.models import head

    assert HEAD_CHUNK_BYTES == head.CHUNK_BYTES
    rows = [end - start for start, end in head.chunks(100_000, 50_265)]
    assert rows[0] == max(rows) == HEAD_CHUNK_BYTES // (24 * 50_265) and sum(rows) == 100_000


def test_models_without_a_decoder_read_everything_in_the_encoder():
    bert = architecture_of({"model_type": "bert"}, "masked-lm")
    (mix,) = token_mixes(bert, 1000, (512, 0))
    assert (mix.source, mix.target, mix.head) == (1000, 0, 1000)
    (mix,) = token_mixes(architecture_of({"model_type": "bert"}, "classification"), 1000, (128, 0))
    assert mix.head == 0
    (mix,) = token_mixes(architecture_of({"model_type": "bart"}, "classification"), 1000, (128, 0))
    assert (mix.source, mix.target, mix.head) == (1000, 1000, 0)


def test_states_of_the_teacher_are_those_that_the_loss_reads():
    shape = architecture_of(BART)

    def signals(*terms: str, shared: bool = True) -> int:
        teaching = Teaching(architecture=shape, needs=frozenset(terms), shared_encoder=shared)
        return batch_memory(load(BART, teaching=teaching), 1000).signals

    state = 500 * 64 * 4
    assert signals("logits") == state  # the last state of the decoder
    assert signals("logits", shared=False) == 2 * state
    assert signals("hidden") == (1 + 3) * state
    assert signals("hidden", shared=False) == (1 + 3 + 1 + 2) * state
    assert signals("attention") > signals("logits")
    assert batch_memory(load(BART), 1000).signals == 0
