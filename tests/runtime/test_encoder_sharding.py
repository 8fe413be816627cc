"""Classification, regression and masked language models over ZeRO 0 to 3, one process and two: the same losses and
weights, also where a rank has no example and where what is masked is drawn out of the whole step."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from .ways import Found, Spec, run

pytestmark = pytest.mark.slow

SPEC = """\
version: 1
name: {name}
task: {task}
teacher:
  architecture: {{family: bert, encoder_layers: 2, d_model: 16, heads: 2, ffn_dim: 32, max_positions: 48}}
  tokenizer: {{vocab_size: 300}}
  train: {{batch: {{examples: 16}}, stopping: {{max_steps: 2}}, validation: {{limit: 8, metrics: [loss]}}}}
student: {{encoder_layers: 1}}
data:
  train: {{files: {folder}/train.jsonl}}
  validation: {{files: {folder}/validation.jsonl}}
  test: {{files: {folder}/validation.jsonl}}
  max_source_tokens: 48
  {data}
batch: {{examples: 9}}
training: {{learning_rate: 3.0e-3, dropout: 0.0, warmup: {{steps: 1}}}}
loss: {{labels: 1.0, logits: {logits}, hidden: {{encoder: 1.0}}, cosine: 0.5}}
stopping: {{max_steps: 6}}
validation: {{every: {{steps: 3}}, metrics: [loss]}}
evaluation: {{speed: null}}
"""
PAIR = "columns: {{premise: premise, hypothesis: hypothesis, label: {label}, id: id}}"
TASKS = {
    "classification": (PAIR.format(label="label") + "\n  labels: [wet, dry, cold]", "0.5"),
    "regression": (PAIR.format(label="score"), "{weight: 0.5, divergence: mse}"),
    "masked-lm": ("columns: {text: premise, id: id}", "{weight: 0.5, positions: all}"),
}
ZERO_STAGES = (0, 1, 2, 3)
NUM_STEPS = 6
NO_GRADIENT = "key.bias"  # softmax does not see it: its gradient is rounding alone, and Adam makes steps of that


def specs(folder: Path, num_processes: int) -> list[Spec]:
    return [
        Spec(
            folder / "workspace",
            f"{task}-{num_processes}",
            SPEC.format(name=task, task=task, folder=folder, data=data, logits=logits),
            num_processes,
        )
        for task, (data, logits) in TASKS.items()
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """TASK-PROCESSES/WAY -> what came out of it."""
    folder = tmp_path_factory.mktemp("encoders")
    draw = random.Random(1)
    words = "rain snow sun wind road bridge river school market harbour closes opens floods freezes today".split()
    for split, number in (("train", 45), ("validation", 7)):
        rows = [
            {
                "id": str(i),
                "premise": " ".join(draw.choices(words, k=draw.randint(14, 30))),
                "hypothesis": " ".join(draw.choices(words, k=draw.randint(2, 6))),
                "label": draw.choice(["wet", "dry", "cold"]),
                "score": draw.uniform(-1.0, 5.0),
            }
            for i in range(number)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    alone = []
    for spec in specs(folder, 1):
        alone.append((spec, [spec.way("zero-0", 0), spec.way("one-row", 0, batch_size=1)]))
    outcomes = run(alone, "--in-process")
    shared = []
    for spec in specs(folder, 2):
        ways = [spec.way(f"zero-{zero}", zero) for zero in ZERO_STAGES]
        shared.append((spec, [*ways, spec.way("one-row", 2, batch_size=1)]))
    return outcomes | run(shared)


@pytest.mark.parametrize("task", TASKS)
def test_losses_and_weights_do_not_depend_on_how_it_is_sharded(found: dict[str, Found], task: str) -> None:
    reference, weights = found[f"{task}-1/zero-0"]
    assert len(reference) == NUM_STEPS + 2  # and two validations
    others = {name: of for name, of in found.items() if name.startswith(f"{task}-") and "one-row" not in name}
    assert len(others) == 1 + len(ZERO_STAGES)
    for name, (losses, theirs) in others.items():
        assert losses == pytest.approx(reference, abs=1e-5), name
        assert theirs.keys() == weights.keys()
        apart = max(float((weights[of] - theirs[of]).abs().max()) for of in weights if NO_GRADIENT not in of)
        assert apart < 1e-4, (name, apart)


@pytest.mark.parametrize("task", TASKS)
def test_a_process_without_examples_changes_nothing(found: dict[str, Found], task: str) -> None:
    (losses, weights), (of_two, theirs) = found[f"{task}-1/one-row"], found[f"{task}-2/one-row"]
    assert of_two == pytest.approx(losses, abs=1e-5)
    assert max(float((weights[of] - theirs[of]).abs().max()) for of in weights if NO_GRADIENT not in of) < 1e-4
