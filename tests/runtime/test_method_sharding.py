"""Ways to train over ZeRO 0 to 3 and two processes: what is not run in a step leaves no rank waiting and no share of a
sharded optimizer with the gradient of another step."""

from __future__ import annotations

import pytest

from .ways import Found, Spec, run

pytestmark = pytest.mark.slow

SPEC = """\
version: 1
name: {name}
task: summarization
teacher:
  architecture: {{family: bart, encoder_layers: 2, decoder_layers: 4, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 256}}
  tokenizer: {{kind: bpe, vocab_size: 400}}
  train: {{batch: {{examples: 16}}, stopping: {{max_steps: 2}}, validation: {{limit: 8, metrics: [loss]}}}}
student: {{decoder_layers: 2}}
data:
  train: {{builtin: bulletins, split: train, limit: 96}}
  validation: {{builtin: bulletins, split: validation, limit: 8}}
  test: {{builtin: bulletins, split: test, limit: 8}}
  columns: {{source: source, target: target, id: id}}
  max_source_tokens: 256
  max_target_tokens: 64
batch: {{examples: 24}}
training: {{learning_rate: 3.0e-3, dropout: 0.0, warmup: {{steps: 1}}, method: {method}}}
loss: {{labels: 1.0}}
stopping: {{max_steps: 6}}
validation: {{every: {{steps: 3}}, limit: 8, metrics: [loss]}}
evaluation: {{metrics: [rouge2], speed: null}}
"""
METHODS = {"theseus": "{theseus: {probability: 0.5}}", "layer-drop": "{layer_drop: {rate: 0.5}}", "plain": "null"}
ZERO_STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """METHOD/zero-N -> what came out of it."""
    workspace = tmp_path_factory.mktemp("methods") / "workspace"
    specs = [Spec(workspace, name, SPEC.format(name=name, method=method), 2) for name, method in METHODS.items()]
    ways = {"plain": [0]}
    return run([(spec, [spec.way(f"zero-{zero}", zero) for zero in ways.get(spec.name, ZERO_STAGES)]) for spec in specs])


@pytest.mark.parametrize("method", ["theseus", "layer-drop"])
def test_losses_do_not_depend_on_how_it_is_sharded(found: dict[str, Found], method: str) -> None:
    reference, _ = found[f"{method}/zero-0"]
    assert len(reference) == 6 + 2  # and two validations
    plain, _ = found["plain/zero-0"]
    assert max(abs(one - other) for one, other in zip(reference, plain, strict=True)) > 1e-3
    for zero in ZERO_STAGES[1:]:
        assert found[f"{method}/zero-{zero}"][0] == pytest.approx(reference, abs=1e-5), zero
