"""States that are kept of a teacher: written in shards, read in batches, and as good as computed ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distilc.compiler.estimates.candidates import candidate_bytes
from distilc.compiler.resolve.data_sizes import DataSize
from distilc.runtime.data.batches import collate
from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.models import head as model_head
from distilc.runtime.models.forward import first_stack_digest
from distilc.runtime.models.freeze import freeze
from distilc.runtime.models.load import load_model
from distilc.runtime.objective import head
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import load_teacher
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import (
    Candidates,
    HiddenTerm,
    KeptCandidates,
    LabelsTerm,
    LayerMaps,
    LogitsTerm,
    ObjectiveSettings,
    SignalsSettings,
)
from distilc.runtime.signals import fill
from distilc.runtime.signals.layout import read_facts
from distilc.runtime.signals.read import Signals, with_signals
from distilc.runtime.stages.signals import _require_room

FAMILIES = ["bart", "mbart", "pegasus", "marian", "t5"]
PAD, BUDGET = 1, 40
"""Ids of the rows are 5 to 39; padded source tokens of a batch."""
LOSS = ObjectiveSettings(
    labels=LabelsTerm(weight=1.0, smoothing=0.1),
    logits=LogitsTerm(weight=0.8, temperature=2.0, divergence="forward-kl", beta=None, alpha=None, positions=None),
    hidden=HiddenTerm(encoder=0.5, decoder=3.0, layer_norm="per-token", align="outputs"),
    attention=None,
    cosine=0.9,
    embedding=None,
    own={},
    phi=LayerMaps(encoder=(0, 2), decoder=(1, 2)),
)
Models = Callable[..., Path]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """29 rows of different lengths."""
    random = np.random.default_rng(7)
    made = []
    for i in range(29):
        source, target = (random.integers(5, 40, int(random.integers(1, most))) for most in (12, 8))
        made.append((source.tolist(), target.tolist(), {"id": str(i), "source": "s", "target": "t"}))
    write_rows(tmp_path, "train", iter(made))
    return Rows.open(tmp_path, "train")


def filling(model: Any, rows: Rows, folder: Path, side: Any, encoder: Signals | None = None, **settings: Any) -> Any:
    """The stage's work on one side, with small shards."""
    chosen = SignalsSettings(**{"side": side, "last": True, "layers": (), "precision": "fp32", **settings})
    execution = Execution(locations={}, micro_batch_tokens=BUDGET, save_minutes=None, deepspeed=None)
    stage = Stage(id=f"signals-{side}", kind="signals", key="k", needs={}, settings=chosen, execution=execution)
    context = Context(
        plan=SimpleNamespace(task="summarization"), stage=stage, folder=folder, scratch=folder / ".scratch", inputs={}, rank=0, world=1,
        device="cpu", journal=Journal(None), progress=Progress(None, stage.id),
    )  # fmt: skip
    context.scratch.mkdir(parents=True, exist_ok=True)
    return fill.Filling(
        model, rows, chosen, context, pad_id=PAD, encoder=first_stack_digest(model), encoder_signals=encoder
    )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "SHARD_TOKENS", 30)


# --- the files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_comes_back_as_it_is_computed_alone(
    family: str, tiny_model_folder: Models, rows: Rows, tmp_path: Path
) -> None:
    model = load_model(tiny_model_folder(family, 3, 3))
    folders = {side: tmp_path / side for side in ("encoder", "decoder")}
    filling(model, rows, folders["encoder"], "encoder").run()
    encoder = Signals({"encoder": folders["encoder"]}, rows)
    work = filling(model, rows, folders["decoder"], "decoder", encoder, layers=(1, 2))
    num_bytes = work.run()
    final_norm = family in ("mbart", "pegasus", "t5")
    tokens = int(rows.target_lengths.sum())
    states = 3 if final_norm else 2  # else the last layer's output is the last state
    assert num_bytes == states * (128 + tokens * 16 * 4) + 128 + 8 * (len(rows) + 1)
    assert num_bytes == sum(file.stat().st_size for file in folders["decoder"].glob("*.npy"))

    kept = Signals(folders, rows)
    ids = np.array([3, 28, 0])
    batch = collate(rows, ids, PAD)
    found = kept.batch(ids, batch["input_ids"].shape[1], batch["labels"].shape[1])
    assert set(found) == {"encoder.last", "decoder.last", "decoder.layer-1", "decoder.layer-2"} == kept.states
    for b, i in enumerate(ids):
        one = collate(rows, [int(i)], PAD)
        with torch.no_grad():
            output = model(**one, output_hidden_states=True, use_cache=False)
        source, target = int(rows.source_lengths[i]), int(rows.target_lengths[i])
        expected = {
            "encoder.last": output.encoder_last_hidden_state[0],
            "decoder.last": output.decoder_hidden_states[-1][0],
            "decoder.layer-1": output.decoder_hidden_states[2][0],
        }
        for name, value in expected.items():
            length = source if name.startswith("encoder") else target
            torch.testing.assert_close(found[name][b, :length], value, atol=2e-5, rtol=1e-4)
            assert not found[name][b, length:].any()
    same = torch.equal(found["decoder.last"], found["decoder.layer-2"])
    assert same is not final_norm


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_come_back_to_the_bit(
    precision: Any, tiny_model_folder: Models, rows: Rows, tmp_path: Path
) -> None:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    model = load_model(tiny_model_folder("bart", 3, 3)).to(kind)
    work = filling(model, rows, tmp_path / "e", "encoder", precision=precision)
    work.run()
    kept = Signals({"encoder": tmp_path / "e"}, rows)
    batch = next(batch for batch in work._batches() if 4 in batch)
    b = batch.tolist().index(4)
    length = int(rows.source_lengths[4])
    found = kept.batch(np.array([4]), length, 3)["encoder.last"]
    assert found.dtype == kind
    assert torch.equal(found[0], work.states(batch)["last"][b, :length])
    assert (tmp_path / "e" / "last.npy").stat().st_size == 128 + int(rows.source_lengths.sum()) * 16 * 2


def test_what_was_killed_goes_on_and_ends_in_the_same_bytes(
    tiny_model_folder: Models, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    filling(model, rows, tmp_path / "whole", "encoder").run()
    done: list[int] = []
    killed = filling(model, rows, tmp_path / "killed", "encoder")
    written = killed._mark

    def die_after_two(number: int) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        written(number)
        done.append(number)

    monkeypatch.setattr(killed, "_mark", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = filling(model, rows, tmp_path / "killed", "encoder")
    shards: list[Any] = []
    computed = again._shard
    monkeypatch.setattr(again, "_shard", lambda batches, arrays: (shards.append(batches), computed(batches, arrays)))
    again.run()
    assert len(shards) == len(list((tmp_path / "killed" / ".scratch" / "shards").iterdir())) - 2 > 2
    for file in (tmp_path / "whole").glob("*.npy"):
        assert file.read_bytes() == (tmp_path / "killed" / file.name).read_bytes()


def test_a_mix_of_targets_reads_the_states_of_its_sources(
    tiny_model_folder: Models, rows: Rows, tmp_path: Path
) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    filling(model, rows, tmp_path / "e", "encoder").run()
    order = [4, 4, 11, 0, 28, 11]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_rows(mixed, "train", ((rows.source(i), [7, 8], {"id": str(i), "source": "", "target": ""}) for i in order))
    np.save(mixed / "train.source_row.npy", np.array(order))
    found = Signals({"encoder": tmp_path / "e"}, Rows.open(mixed, "train")).batch(np.array([5, 0, 3]), 12, 2)
    plain = Signals({"encoder": tmp_path / "e"}, rows).batch(np.array([11, 4, 0]), 12, 2)
    assert torch.equal(found["encoder.last"], plain["encoder.last"])
    np.save(mixed / "train.source_row.npy", np.array(order[::-1]))
    with pytest.raises(Failure, match="of other data"):
        Signals({"encoder": tmp_path / "e"}, Rows.open(mixed, "train"))


def test_damage_is_a_diagnosis(tiny_model_folder: Models, rows: Rows, tmp_path: Path) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    filling(model, rows, tmp_path / "e", "encoder").run()
    shutil.copytree(tmp_path / "e", tmp_path / "broken")
    (tmp_path / "broken" / "last.npy").unlink()
    (tmp_path / "empty").mkdir()
    for folder in ("broken", "empty"):
        with pytest.raises(Failure) as found:
            Signals({"encoder": tmp_path / folder}, rows)
        assert found.value.code == "R331"
    assert read_facts(tmp_path / "e").encoder == first_stack_digest(model)


def test_states_that_depend_on_their_batch_are_not_kept(
    tiny_model_folder: Models, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    work = filling(model, rows, tmp_path / "e", "encoder")
    computed = work.states
    monkeypatch.setattr(work, "states", lambda ids: {k: v * len(ids) for k, v in computed(ids).items()})
    with pytest.raises(Failure) as found:
        work.run()
    assert found.value.code == "R333"
    assert "the encoder states (last)" in found.value.message and "limit_gb: 0" in found.value.hint


def test_the_hints_of_states_and_of_candidates(
    tiny_model_folder: Models, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of the scratch folder leaves out states, never the candidates that a spec asks for."""
    model = load_model(tiny_model_folder("bart", 3, 3))
    asked = KeptCandidates(kind="top-k", number=3, vocabulary=38, temperature=2.0, seed=None)
    states = filling(model, rows, tmp_path / "s", "decoder", last=True)
    candidates = filling(model, rows, tmp_path / "c", "decoder", last=False, candidates=asked)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    for work, what, hint in (
        (states, "the states of the decoder take", "`scratch: {limit_gb: N}`"),
        (candidates, "the candidates take", "`loss.logits.candidates: all`, or fewer candidates"),
    ):
        with pytest.raises(Failure) as found:
            _require_room(work, work.context)
        assert found.value.code == "R334" and what in found.value.message and found.value.hint.endswith(hint)
    with pytest.raises(Failure) as found:
        candidates._compare(torch.ones(1, 2, 3), torch.zeros(1, 2, 3), "log-probabilities", 0)
    assert found.value.code == "R333" and "candidates: all" in found.value.hint and "limit_gb" not in found.value.hint


# --- the objective -------------------------------------------------------------------------------------


def objective_and_folder(family: str, models: Models, own_encoder: bool) -> tuple[Objective, Path]:
    """A student of two decoder layers, all else the teacher's."""
    teacher_folder = models(family, 3, 3)
    student = load_model(models(family, 3, 2))
    theirs = load_model(teacher_folder)
    if not own_encoder:
        state = student.state_dict()
        for name, tensor in theirs.state_dict().items():
            if name in state and ".decoder.layers" not in name and not name.startswith("decoder.block"):
                state[name].copy_(tensor)
    parts = () if own_encoder else ("encoder", "embeddings", "positions")
    freeze(student, parts)
    teacher = load_teacher(teacher_folder, student, parts, "fp32")
    assert teacher.shared == (() if own_encoder else ("encoder",))
    phi = LayerMaps(encoder=(0, 2), decoder=(1, 2))
    hidden = HiddenTerm(encoder=0.5 if own_encoder else 0.0, decoder=3.0, layer_norm="per-token", align="outputs")
    return Objective(student, replace(LOSS, hidden=hidden, phi=phi), parts, teacher).eval(), teacher_folder


@pytest.mark.parametrize("own_encoder", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_a_teacher_at_work(
    family: str, own_encoder: bool, tiny_model_folder: Models, rows: Rows, tmp_path: Path
) -> None:
    objective, folder = objective_and_folder(family, tiny_model_folder, own_encoder)
    model = load_model(folder)
    settings: dict[str, Any] = {"last": False, "layers": (0, 2)} if own_encoder else {}
    filling(model, rows, tmp_path / "encoder", "encoder", **settings).run()
    filling(model, rows, tmp_path / "decoder", "decoder", layers=(1, 2)).run()
    kept = Signals({side: tmp_path / side for side in ("encoder", "decoder")}, rows)
    ids = np.array([2, 9, 17, 25])
    batch = collate(rows, ids, PAD)
    items: Any = {"label-tokens": int((batch["labels"] != -100).sum()), "source-tokens": int(batch["attention_mask"].sum())}
    factors = factors_of(items, world=1)
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}

    def result(batch: Any) -> tuple[Any, Any]:
        share, raw = objective(batch, factors)
        return raw, torch.autograd.grad(share, list(trained.values()), allow_unused=True)

    raw, gradients = result(batch)
    assert objective.teacher is not None
    objective.teacher.drop_layers(*objective.states.idle_stacks(kept.states))
    assert objective.states.idle_stacks(kept.states) == ("encoder", "decoder")
    from_kept, others = result(with_signals(dict(batch), kept, ids))
    assert set(from_kept) == set(raw)
    for name, value in raw.items():
        torch.testing.assert_close(from_kept[name], value, rtol=2e-5, atol=1e-5)
    for name, one, other in zip(trained, gradients, others, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_term_without_kept_states_runs_the_teacher(tiny_model_folder: Models, rows: Rows) -> None:
    objective, _ = objective_and_folder("bart", tiny_model_folder, own_encoder=False)
    assert objective.states.idle_stacks({"decoder.last"}) == ()  # φ names layers that are not there
    assert objective.states.idle_stacks({"decoder.last", "decoder.layer-1", "decoder.layer-2"}) == ("encoder", "decoder")
    states, found = objective.states, {"decoder.last", "decoder.layer-1", "decoder.layer-2"}
    states.needs |= {"whatever-comes-next"}  # a term that declares what nobody has thought of
    assert states.idle_stacks(found) == ()
    states.needs -= {"whatever-comes-next"}
    assert states.idle_stacks(found) == ("encoder", "decoder")
    inputs = replace(LOSS, hidden=HiddenTerm(encoder=0.0, decoder=3.0, layer_norm="none", align="inputs"))
    other = Objective(objective.student, inputs, objective.freeze, objective.teacher)
    assert other.states.idle_stacks({"decoder.last", "decoder.layer-1", "decoder.layer-2"}) == ()


def test_a_rank_without_rows_does_the_same(tiny_model_folder: Models, rows: Rows, tmp_path: Path) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    filling(model, rows, tmp_path / "e", "encoder").run()
    kept = Signals({"encoder": tmp_path / "e"}, rows)
    none = np.zeros(0, np.int64)
    batch = with_signals(collate(rows, none, PAD), kept, none)
    assert batch["encoder.last"].shape == (1, 1, 16) and not batch["encoder.last"].any()


# --- candidates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["top-k", "sampled"])
def test_candidates_train_a_student_without_a_teacher(
    kind: Any, tiny_model_folder: Models, rows: Rows, tmp_path: Path
) -> None:
    """Filled, read, and compared with what a whole forward of the teacher gives the same ids; bytes as planned."""
    number, vocabulary = 6, 38
    teacher, student = (load_model(tiny_model_folder("bart", 3, depth)) for depth in (3, 2))
    for seed, model in enumerate((teacher, student)):
        torch.manual_seed(seed)
        model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias))
    settings = KeptCandidates(
        kind=kind, number=number, vocabulary=vocabulary, temperature=2.0, seed=7 if kind == "sampled" else None
    )
    work = filling(teacher, rows, tmp_path / "c", "decoder", last=False, candidates=settings)
    num_bytes, tokens = work.run(), int(rows.target_lengths.sum())
    assert num_bytes == sum(file.stat().st_size for file in (tmp_path / "c").glob("*.npy"))
    assert num_bytes == candidate_bytes({"candidates": asdict(settings)}, DataSize(len(rows), 0, tokens / len(rows), "store"))

    kept = Signals({"candidates": tmp_path / "c"}, rows)
    ids = np.array([2, 9, 17, 25])
    batch = with_signals(collate(rows, ids, PAD), kept, ids)
    valid = batch["labels"] != -100
    with torch.no_grad():
        logits = [model(**collate(rows, ids, PAD), use_cache=False).logits[valid] for model in (teacher, student)]
    log_p, log_q = (torch.log_softmax(x[:, :vocabulary].double() / 2.0, -1) for x in logits)
    chosen = batch["candidates.ids"][valid].long()
    one, two = log_p.gather(-1, chosen), log_q.gather(-1, chosen)
    if kind == "top-k":
        assert torch.equal(chosen, log_p.topk(number).indices)
        rest = [(1 - x.exp().sum(-1, keepdim=True)).log() for x in (one, two)]
        one, two = torch.cat([one, rest[0]], -1), torch.cat([two, rest[1]], -1)
        expected = float((one.exp() * (one - two)).sum()) * 4
    else:
        expected = float((one - two).sum()) / number * 4
    torch.testing.assert_close(batch["candidates.log-probabilities"][valid].double(), one, atol=2e-5, rtol=1e-5)

    assert LOSS.logits is not None
    asked = Candidates(kind=kind, number=number, vocabulary=vocabulary)
    loss = replace(LOSS, hidden=None, cosine=None, phi=None, logits=replace(LOSS.logits, candidates=asked))
    objective = Objective(student, loss, ()).eval()
    items: Any = {"label-tokens": int(valid.sum())}
    share, raw = objective(batch, factors_of(items, world=1))
    assert float(raw["logits"]) == pytest.approx(expected, rel=1e-4)
    whole = torch.autograd.grad(share, student.model.shared.weight)[0]
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:  # a row at a time
        patch.setattr(model_head, "CHUNK_BYTES", 0)
        patch.setattr(head, "BLOCK_BYTES", 0)
        cut = torch.autograd.grad(objective(batch, factors_of(items, world=1))[0], student.model.shared.weight)[0]
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-6)
    with pytest.raises(Failure) as found:
        objective(collate(rows, ids, PAD), factors_of(items, world=1))
    assert found.value.code == "R335"


def test_draws_do_not_depend_on_the_batches(tiny_model_folder: Models, rows: Rows, tmp_path: Path) -> None:
    model = load_model(tiny_model_folder("bart", 3, 3))
    settings = KeptCandidates(kind="sampled", number=3, vocabulary=40, temperature=1.0, seed=1)
    found = []
    for budget in (40, 4000):
        work = filling(model, rows, tmp_path / str(budget), "decoder", last=False, candidates=settings)
        execution = replace(work.context.stage.execution, micro_batch_tokens=budget)
        work.context = replace(work.context, stage=replace(work.context.stage, execution=execution))
        work.run()
        found.append(np.load(tmp_path / str(budget) / "candidates.npy"))
    assert (found[0] == found[1]).all() and len(np.unique(found[0])) > 20
