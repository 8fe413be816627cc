"""However a site runs a training, it ends the same: ZeRO 0 to 3, one and two processes, other micro-batches, a sharded
teacher, checkpointing, offloading, states of the teacher that were kept, ways to train.

Both halves for real. All that takes two processes is one launch, in which what an earlier one was killed at goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from torch import Tensor

from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.signals import choose_signals
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.runtime.training.cpu_adam import missing_tools

from .ways import Found, Spec, Stage, run, start

pytestmark = pytest.mark.slow

OWN = """\
version: 1
name: equivalence
task: summarization
teacher:
  architecture: {family: bart, encoder_layers: 2, decoder_layers: 3, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 128}
  tokenizer: {kind: bpe, vocab_size: 1500}
  train:
    batch: {examples: 16}
    stopping: {max_steps: 2}
    validation: {limit: 8, metrics: [loss]}
student: {encoder_layers: 1, decoder_layers: 2}
data:
  train: {builtin: bulletins, split: train, limit: 96}
  validation: {builtin: bulletins, split: validation, limit: 8}
  test: {builtin: bulletins, split: test, limit: 8}
  columns: {source: source, target: target, id: id}
  max_source_tokens: 128
  max_target_tokens: 48
batch: {examples: 24}
training: {learning_rate: 3.0e-3, dropout: 0.0, warmup: {steps: 1}, gradient_clipping: 0.5}
loss:
  labels: {weight: 1.0, smoothing: 0.1}
  logits: 0.8
  hidden: {encoder: 0.5, decoder: 1.0, layer_norm: per-token}
  attention: {decoder_cross: 2.0}
  cosine: 0.5
  embedding: 0.1
stopping: {max_steps: 6}
validation: {every: {steps: 3}, limit: 8, metrics: [loss]}
evaluation: {metrics: [rouge2], speed: null}
"""
# The frozen encoder is the teacher's.
SHARED = (
    OWN.replace("student: {encoder_layers: 1, decoder_layers: 2}", "student: {decoder_layers: 2}")
    .replace("hidden: {encoder: 0.5, decoder: 1.0, layer_norm: per-token}", "hidden: {decoder: 1.0}")
    .replace("  embedding: 0.1\n", "")
)
# No term asks for logits: a validation is the first to do so.
STATES = OWN.replace("  labels: {weight: 1.0, smoothing: 0.1}\n  logits: 0.8\n", "")
# Its states can be kept; two epochs.
KEPT = SHARED.replace("  attention: {decoder_cross: 2.0}\n", "").replace("stopping: {max_steps: 6}", "stopping: {max_steps: 9}")
# Ways to train: what is not run in a step leaves no rank waiting, and no share of a sharded optimizer with the gradient of
# another step.
METHODS = {"theseus": "{theseus: {probability: 0.5}}", "layer-drop": "{layer_drop: {rate: 0.5}}", "plain": "null"}
METHOD = """\
version: 1
name: NAME
task: summarization
teacher:
  architecture: {family: bart, encoder_layers: 2, decoder_layers: 4, d_model: 32, heads: 2, ffn_dim: 64, max_positions: 128}
  tokenizer: {kind: bpe, vocab_size: 1500}
  train: {batch: {examples: 16}, stopping: {max_steps: 2}, validation: {limit: 8, metrics: [loss]}}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins, split: train, limit: 96}
  validation: {builtin: bulletins, split: validation, limit: 8}
  test: {builtin: bulletins, split: test, limit: 8}
  columns: {source: source, target: target, id: id}
  max_source_tokens: 128
  max_target_tokens: 48
batch: {examples: 24}
training: {learning_rate: 3.0e-3, dropout: 0.0, warmup: {steps: 1}, method: HOW}
loss: {labels: 1.0}
stopping: {max_steps: 6}
validation: {every: {steps: 3}, limit: 8, metrics: [loss]}
evaluation: {metrics: [rouge2], speed: null}
"""
ZERO_STAGES = (0, 1, 2, 3)
MEMORY_ZERO_STAGES = (0, 2, 3)  # 1 differs from 2 in how gradients are kept alone
SMALL_MICRO_BATCH = 250
NUM_STEPS = 6
OFFLOAD = "DISTILC_TEST_OFFLOAD"  # set it to 1 where a build of C++ may take its minutes
NO_GRADIENT = "k_proj.bias"  # softmax does not see it: its gradient is rounding alone, and Adam makes steps of that


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("equivalence") / "workspace"


@pytest.fixture(scope="module")
def own(workspace: Path) -> Spec:
    """A student with an encoder of its own, and all terms."""
    return Spec(workspace, "own", OWN, 2)


@pytest.fixture(scope="module")
def alone(workspace: Path) -> dict[str, Found]:
    """One process, which has nothing to share: ZeRO 3, which gathers, stands for 1 and 2."""
    spec = Spec(workspace, "alone", OWN, 1)
    ways = [spec.way(f"zero-{zero}", zero) for zero in (0, 3)]
    ways += [spec.way("small", 0, micro_batch_tokens=SMALL_MICRO_BATCH), spec.way("one-row", 0, batch_size=1)]
    states = Spec(workspace, "states", STATES, 1)
    return run([(spec, ways), (states, [states.way(f"zero-{zero}", zero) for zero in (0, 3)])], "--in-process")


@pytest.fixture(scope="module")
def kept(workspace: Path) -> Spec:
    return Spec(workspace, "kept", KEPT, 2)


@pytest.fixture(scope="module")
def found(workspace: Path, own: Spec, kept: Spec, alone: dict[str, Found]) -> dict[str, Found]:
    """SPEC/WAY -> what came out of it, on two processes; the teacher is that of `alone`."""
    shared = Spec(workspace, "shared", SHARED, 2)
    own_ways = [own.way(f"zero-{zero}", zero) for zero in ZERO_STAGES]
    for zero in (0, 2):
        own_ways.append(own.way(f"zero-{zero}-small", zero, micro_batch_tokens=SMALL_MICRO_BATCH))
        own_ways.append(own.way(f"zero-{zero}-one-row", zero, batch_size=1))  # of two processes one has none
    own_ways.append(own.way("zero-3-both", 3, sharded=True, checkpointing=True))
    shared_ways = [shared.way(f"zero-{zero}", zero) for zero in MEMORY_ZERO_STAGES]
    for spec, ways in ((own, own_ways), (shared, shared_ways)):
        ways += [spec.way(f"zero-{zero}-again", zero, checkpointing=True) for zero in MEMORY_ZERO_STAGES]
        ways += [spec.way(f"zero-{zero}-sharded", zero, sharded=True) for zero in MEMORY_ZERO_STAGES]
    kept_ways = [kept.way("computed", 0), *(kept.way(f"zero-{zero}", zero, kept=True) for zero in ZERO_STAGES)]
    method_ways = []
    for name, how in METHODS.items():
        spec = Spec(workspace, name, METHOD.replace("NAME", name).replace("HOW", how), 2)
        zeros = (0,) if name == "plain" else ZERO_STAGES
        method_ways.append((spec, [spec.way(f"zero-{zero}", zero) for zero in zeros]))
    killed = own.way("killed", 3, sharded=True, checkpointing=True)
    kill_on_the_way(own, killed)
    return run([(own, [*own_ways, killed]), (shared, shared_ways), (kept, kept_ways), *method_ways])


def difference(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """The largest one of any weight."""
    assert weights.keys() == others.keys()
    return max(float((weights[name] - others[name]).abs().max()) for name in weights if NO_GRADIENT not in name)


def same(one: Found, other: Found) -> bool:
    return one[0] == other[0] and all(one[1][name].equal(other[1][name]) for name in one[1])


def test_losses_do_not_depend_on_how_the_plan_runs(alone: dict[str, Found], found: dict[str, Found]) -> None:
    reference, _ = alone["alone/zero-0"]
    assert len(reference) == NUM_STEPS + 2  # and two validations
    assert reference[-2] > reference[-1]  # it learns: the second validation is better
    for name in ("zero-3", "small"):
        assert alone[f"alone/{name}"][0] == pytest.approx(reference, abs=1e-5), name
    for name in ("zero-0", "zero-1", "zero-2", "zero-3", "zero-0-small", "zero-2-small"):
        assert found[f"own/{name}"][0] == pytest.approx(reference, abs=1e-5), name


def test_terms_of_states_alone_do_not_depend_on_it_either(alone: dict[str, Found]) -> None:
    losses, weights = alone["states/zero-0"]
    assert len(losses) == NUM_STEPS + 2
    other_losses, other_weights = alone["states/zero-3"]
    assert other_losses == pytest.approx(losses, abs=1e-5)
    assert difference(other_weights, weights) < 1e-5


def test_a_process_without_examples_changes_nothing(alone: dict[str, Found], found: dict[str, Found]) -> None:
    """Every term is on, of the encoder too: what that process runs to keep step counts in none."""
    reference, _ = alone["alone/one-row"]
    assert len(reference) == NUM_STEPS + 2
    for zero in (0, 2):
        assert found[f"own/zero-{zero}-one-row"][0] == pytest.approx(reference, abs=1e-5)


@pytest.mark.parametrize("encoder", ["own", "shared"])
@pytest.mark.parametrize("zero", MEMORY_ZERO_STAGES)
def test_a_sharded_teacher_teaches_what_the_whole_one_does(found: dict[str, Found], encoder: str, zero: int) -> None:
    losses, weights = found[f"{encoder}/zero-{zero}"]
    assert len(losses) == NUM_STEPS + 2 and losses[-1] < losses[-2]
    sharded_losses, sharded_weights = found[f"{encoder}/zero-{zero}-sharded"]
    assert sharded_losses == pytest.approx(losses, abs=1e-6)
    assert difference(sharded_weights, weights) < 1e-6


@pytest.mark.parametrize("encoder", ["own", "shared"])
def test_activations_computed_again_are_the_same(found: dict[str, Found], encoder: str) -> None:
    for zero in MEMORY_ZERO_STAGES:
        losses, weights = found[f"{encoder}/zero-{zero}"]
        losses_again, weights_again = found[f"{encoder}/zero-{zero}-again"]
        assert losses_again == pytest.approx(losses, abs=1e-6), zero
        assert difference(weights_again, weights) < 1e-6, zero


def test_both_together(found: dict[str, Found]) -> None:
    (losses, weights), (losses_of_both, weights_of_both) = found["own/zero-3"], found["own/zero-3-both"]
    assert losses_of_both == pytest.approx(losses, abs=1e-6)
    assert difference(weights_of_both, weights) < 1e-6


def test_kept_states_teach_what_a_teacher_at_work_does(found: dict[str, Found], kept: Spec) -> None:
    losses, weights = found["kept/computed"]
    assert len(losses) == 9 + 3 and losses[-1] < losses[-2] < losses[-3]
    assert kept.train["execution"]["signals"] == {
        "encoder": "kept/signals-encoder", "decoder": "kept/signals-decoder"
    }  # fmt: skip
    for zero in ZERO_STAGES:
        other_losses, other_weights = found[f"kept/zero-{zero}"]
        assert other_losses == pytest.approx(losses, abs=1e-5), zero
        assert difference(other_weights, weights) < 1e-5, zero


def test_the_bytes_of_kept_states_are_those_that_were_predicted(found: dict[str, Found], kept: Spec) -> None:
    """By the compiler, now that the data are there."""
    site = load_site(SiteOptions(workspace=kept.workspace)).site
    assert site is not None
    plans, _ = lower_runs(compile_spec(kept.folder / "spec.yaml", (), site), site, fingerprints=True)
    signals = choose_signals(plans)
    assert len(signals) == 2
    for chosen in signals:
        files = (kept.workspace / "store" / chosen.key).glob("*.npy")
        assert chosen.num_bytes == sum(file.stat().st_size for file in files)


def test_a_killed_training_goes_on_to_the_bit(found: dict[str, Found]) -> None:
    assert same(found["own/killed"], found["own/zero-3-both"])


@pytest.mark.parametrize("method", ["theseus", "layer-drop"])
def test_ways_to_train_do_not_depend_on_how_it_is_sharded(found: dict[str, Found], method: str) -> None:
    reference, _ = found[f"{method}/zero-0"]
    assert len(reference) == NUM_STEPS + 2
    plain, _ = found["plain/zero-0"]
    assert max(abs(one - other) for one, other in zip(reference, plain, strict=True)) > 1e-3
    for zero in ZERO_STAGES[1:]:
        assert found[f"{method}/zero-{zero}"][0] == pytest.approx(reference, abs=1e-5), zero


@pytest.fixture(scope="module")
def offloaded(own: Spec) -> dict[str, Found]:
    if os.environ.get(OFFLOAD) != "1":
        pytest.skip(f"offloading is not tried: it compiles DeepSpeed's CPU Adam, for minutes on a busy machine; {OFFLOAD}=1 tries it")
    if missing := missing_tools():
        pytest.skip(f"DeepSpeed's CPU Adam cannot be compiled here: no {' and no '.join(missing)}")
    ways = [own.way(f"zero-{zero}-optimizer", zero, offload="optimizer") for zero in (1, 2, 3)]
    ways += [own.way("zero-3-parameters", 3, offload="parameters", sharded=True)]
    return run([(own, ways)])


@pytest.mark.parametrize("way", ["zero-1-optimizer", "zero-2-optimizer", "zero-3-optimizer", "zero-3-parameters"])
def test_an_offloaded_training_ends_where_torchs_adamw_does(
    offloaded: dict[str, Found], found: dict[str, Found], way: str
) -> None:
    losses, weights = found[f"own/{way.rpartition('-')[0]}"]
    offloaded_losses, offloaded_weights = offloaded[f"own/{way}"]
    assert offloaded_losses == pytest.approx(losses, abs=1e-5)
    assert difference(offloaded_weights, weights) < 1e-5


def test_a_killed_offloaded_training_goes_on_to_the_bit(offloaded: dict[str, Found], own: Spec) -> None:
    stage = own.way("killed-offloaded", 3, offload="parameters", sharded=True)
    kill_on_the_way(own, stage)
    assert same(run([(own, [stage])])["own/killed-offloaded"], offloaded["own/zero-3-parameters"])


def kill_on_the_way(spec: Spec, stage: Stage) -> None:
    """Start it with a checkpoint after every step, and kill every process of it after the second."""
    stage["execution"]["save_minutes"] = 0.0
    process = start([(spec, [stage])])
    give_up = time.monotonic() + 900
    while process.poll() is None and time.monotonic() < give_up and steps_saved(spec, stage) < 2:
        time.sleep(0.02)
    everything = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in everything:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            one.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= steps_saved(spec, stage) < 6
    assert not (spec.artifact(stage) / "model.safetensors").exists()


def steps_saved(spec: Spec, stage: Stage) -> int:
    """Of the last complete checkpoint."""
    marker = spec.workspace / "store" / ".work" / f"{stage['key']}.scratch" / "checkpoint.json"
    return int(json.loads(marker.read_text("utf-8"))["step"]) if marker.is_file() else 0
