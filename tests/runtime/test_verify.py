"""`verify` on compiled plans: it passes on all families, and names the place of each of ten planted defects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.emit import plan_tree
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.runtime.commands import verify as command
from distilc.runtime.execution.control import Control
from distilc.runtime.execution.processes import Ranks, StopRequest
from distilc.runtime.execution.store import Store
from distilc.runtime.execution.worker import run_stage
from distilc.runtime.extensions import require
from distilc.runtime.failure import Failure
from distilc.runtime.models import head
from distilc.runtime.models.load import load_model
from distilc.runtime.models.save import save_model
from distilc.runtime.objective import build, divergence, hidden, objective, teacher
from distilc.runtime.objective.assembly import TERMS
from distilc.runtime.objective.objective import Objective
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.settings import BatchSettings
from distilc.runtime.protocol import Term, TermInputs
from distilc.runtime.training import step, step_schedule
from distilc.runtime.training.step_schedule import StepSchedule
from distilc.runtime.verify import course, quick
from distilc.runtime.verify.course import prove_course
from distilc.runtime.verify.equality import prove_identity
from distilc.runtime.verify.proof import Proof, diagnosis
from distilc.runtime.verify.prove import prove, reference_proofs
from distilc.runtime.verify.quick import prove_quickly
from distilc.runtime.verify.subject import Subject, subject_of

pytestmark = pytest.mark.slow

FAMILIES = ["bart", "mbart", "pegasus", "marian", "t5"]
SPEC = """\
version: 1
name: verified
task: {task}
teacher: {{path: {teacher}}}
student: {student}
loss: {loss}
phi: {{encoder: block-ends, decoder: block-ends}}
data:
  train: {{files: {data}}}
  validation: {{files: {data}, limit: 4}}
  test: {{files: {data}, limit: 4}}
  columns: {{source: source, target: target}}
  {languages}
  max_source_tokens: 60
  max_target_tokens: 60
batch: {{examples: 4}}
training: {{learning_rate: 1.0e-3, warmup: {{steps: 2}}, gradient_clipping: 1.0}}
stopping: {{max_epochs: 2}}
validation: {{metrics: [loss]}}
evaluation: {{speed: null}}
"""
KD = (
    "{labels: {weight: 1.0, smoothing: 0.1}, logits: {weight: 0.8, temperature: 2.0}, "
    "hidden: {encoder: 0.5, decoder: 3.0, layer_norm: per-token}, "
    "attention: {encoder_self: 0.3, decoder_self: 0.7, decoder_cross: 1.1}, cosine: 0.9}"
)
OF_DECODER = "{labels: 1.0, logits: {weight: 0.8, temperature: 2.0}, hidden: {decoder: 3.0, layer_norm: per-batch}}"
OF_LOGITS = "{labels: 1.0, logits: {weight: 0.8, temperature: 2.0}}"
SHALLOW = "{encoder_layers: 2, decoder_layers: 2, freeze: []}"  # of 3 and 4: its encoder is its own
FROZEN = "{decoder_layers: 2}"  # its encoder is the teacher's
TEXTS = [
    ("the council of the small town approved a new bridge over the river", "a new bridge over the river"),
    ("heavy rain closed two roads near the harbour", "rain closed roads"),
    ("a local team won", "the team won the final"),
    ("prices of bread and milk rose by four percent in march, the office said", "prices rose"),
    ("the museum shows letters that a sailor wrote", "letters of a sailor to his sister"),
    ("doctors warned that the new fever spreads", "doctors warned of a fever in march"),
    ("the school stayed shut", "shut"),
    ("a full ground", "a ground full of children"),
    ("the new bridge", "bridge"),
    ("the office said", "the office said that bread rose"),
]

Made = Callable[..., Subject]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Made:
    """(family, student, loss) -> the training of a compiled plan, with its artifacts."""
    made: dict[tuple[str, str, str], Subject] = {}

    def subject(family: str, student: str = SHALLOW, loss: str = KD) -> Subject:
        key = (family, student, loss)
        if key not in made:
            made[key] = make(tmp_path_factory.mktemp(family), tiny_model_folder(family, 3, 4), family, student, loss)
        return made[key]

    return subject


def make(folder: Path, model: Path, family: str, student: str, loss: str) -> Subject:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in TEXTS), "utf-8")
    spec = folder / "spec.yaml"
    languages = "source_language: en_XX\n  target_language: de_DE" if family == "mbart" else ""
    text = SPEC.format(task="translation", teacher=model, student=student, loss=loss, data=data, languages=languages)
    spec.write_text(text, "utf-8")
    site = load_site(SiteOptions(workspace=folder / "workspace", offline=True, devices=1)).site
    assert site is not None
    plans, after = lower_runs(compile_spec(spec, (), site), site, fingerprints=True)
    assert not after.failed, after.diagnostics
    (folder / "plan.json").write_text(json.dumps(plan_tree(plans[0])), "utf-8")
    bound = load_plan(folder)
    require(bound.stages)
    store, control = Store(Path(bound.site.workspace) / "store"), Control(folder / "control")
    control.folder.mkdir()
    ranks = Ranks(0, 1, 0, 1, "cpu")
    for stage in bound.stages:
        if stage.id == "train":
            break
        run_stage(bound, stage, store, control, ranks, StopRequest(None, None, ranks))
    return subject_of(bound, store)


def failed(proofs: list[Proof]) -> list[str]:
    return [f"({proof.point}) {proof.claim}: {proof.note}" for proof in proofs if proof.state == "failed"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plan_of_each_family_is_proved(family: str, subjects: Made) -> None:
    proofs = prove(subjects(family))
    assert failed(proofs) == []
    assert {proof.point for proof in proofs} == set("abcdefghi")


OTHERS = {
    "labels alone": ("bart", FROZEN, "{labels: 1.0}"),
    "narrower": (
        "t5",
        "{encoder_layers: 2, decoder_layers: 2, d_model: 8, ffn_dim: 16, heads: 1, freeze: [], "
        "init: {encoder: random, decoder: random, embeddings: random}}",
        "{labels: 1.0, hidden: {encoder: 1.0, decoder: 3.0, layer_norm: none}, cosine: 0.5}",
    ),
    "of the most probable": ("bart", FROZEN, "{labels: 1.0, logits: {weight: 0.8, candidates: {top_k: 5}}}"),
    "of draws, with a teacher at work": (
        "t5", SHALLOW,
        "{logits: {weight: 0.8, divergence: skew-kl, temperature: 1.5, candidates: {sampled: 6}}, cosine: 0.5}",
    ),
    "of logits themselves": ("bart", FROZEN, "{labels: 1.0, logits: {weight: 0.1, divergence: mse}}"),
    "of scores of attention": (
        "t5", SHALLOW,
        "{labels: 1.0, attention: {encoder_self: 0.3, decoder_self: 0.7, decoder_cross: 1.1, maps: scores}}",
    ),
    "of layer inputs": (
        "bart", SHALLOW, "{logits: {weight: 1, divergence: jsd, beta: 0.3}, hidden: {decoder: 1, align: inputs}, embedding: 0.3}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS.keys())
def test_other_losses_and_students_are_proved(case: tuple[str, str, str], subjects: Made) -> None:
    assert failed(prove(subjects(*case))) == []


# --- ten planted defects -----------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch, Made, Path], Subject]


def off_by_one_phi(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    made = Objective.__init__

    def shifted(self: Objective, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.states.phi = {stack: [max(0, layer - 1) for layer in found] for stack, found in self.states.phi.items()}

    patch.setattr(Objective, "__init__", shifted)
    return subjects("bart")


def missing_temperature_squared(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    right = divergence.divergence_sum
    patch.setattr(divergence, "divergence_sum", lambda s, t, kind, T, *rest: right(s, t, kind, T, *rest) / T**2)
    return subjects("bart")


def mean_over_padding(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    right = hidden._mask

    def of_decoder_input(inputs: Any, stack: Any) -> torch.Tensor:
        if stack == "encoder":
            return right(inputs, stack)
        valid = inputs.labels != -100
        return torch.cat([torch.ones_like(valid[:, :1]), valid[:, :-1]], dim=1)

    patch.setattr(hidden, "_mask", of_decoder_input)
    return subjects("bart")


def teacher_in_train_mode(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    made = teacher.Teacher.__init__

    def awake(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        self.model.train()

    patch.setattr(teacher.Teacher, "__init__", awake)
    return subjects("bart")


def unfrozen_encoder(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    right = build.freeze
    patch.setattr(build, "freeze", lambda model, parts: right(model, [part for part in parts if part != "encoder"]))
    return subjects("marian", FROZEN, OF_DECODER)


def shared_encoder(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    def always(place: Path, student: Any, freeze: Any, precision: Any) -> teacher.Teacher:
        return teacher.Teacher(load_model(place), shared=("encoder",))

    patch.setattr(build, "load_teacher", always)
    return subjects("bart", SHALLOW, OF_LOGITS)


def wrong_copy(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    subject = subjects("marian", FROZEN, OF_DECODER)
    student, source = load_model(subject.inputs["model"]), subject.teacher()
    student.model.decoder.layers[1].load_state_dict(source.model.decoder.layers[2].state_dict())
    save_model(student, folder, tokenizer=subject.inputs["model"])
    return replace(subject, inputs={**subject.inputs, "model": folder})


def unscaled_head(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    patch.setattr(head, "head_scale", lambda model: 1.0)
    return subjects("t5")


def padded_teacher(subjects: Made, folder: Path) -> Subject:
    """The teacher with eight rows more in its vocabulary, as some checkpoints have them."""
    subject = subjects("bart", SHALLOW, OF_LOGITS)
    model = subject.teacher()
    model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
    save_model(model, folder, tokenizer=subject.inputs["model"])
    return replace(subject, inputs={**subject.inputs, "teacher": folder})


def vocabulary_padded_with_zeros(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    right = divergence.divergence_sum

    def padded(student: torch.Tensor, theirs: torch.Tensor, *rest: Any) -> torch.Tensor:
        missing = theirs.shape[-1] - student.shape[-1]
        return right(torch.nn.functional.pad(student, (0, max(0, missing))), theirs, *rest)

    patch.setattr(divergence, "divergence_sum", padded)
    return padded_teacher(subjects, folder)


def accumulation_without_weighting(patch: pytest.MonkeyPatch, subjects: Made, folder: Path) -> Subject:
    """A mean over micro-batches of their means."""
    cut, right, parts = step.micro_batches, Objective.forward, [1]

    def counted(*arguments: Any) -> Any:
        found = cut(*arguments)
        parts[0] = len(found)
        return found

    def of_means(self: Objective, batch: Any, factors: Any) -> Any:
        own = objective.factors_of(
            {
                "label-tokens": int((batch["labels"] != -100).sum()),
                "source-tokens": int(batch["attention_mask"].sum()),
                "examples": len(batch["labels"]),
            },
            world=1,
        )
        return right(self, batch, {items: value / parts[0] for items, value in own.items()})

    patch.setattr(step, "micro_batches", counted)
    patch.setattr(Objective, "forward", of_means)
    return subjects("bart", SHALLOW, OF_LOGITS)


CHANGING = (
    "{labels: {weight: {from: 1.0, to: 0.2}}, logits: {weight: {from: 0.0, to: 0.8, shape: cosine}, "
    "temperature: {from: 4.0, to: 1.0}}, hidden: {decoder: {from: 0.0, to: 3.0, shape: step, begin: {steps: 2}}}}"
)


def test_numbers_that_change_are_proved_where_an_error_shows(subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of three steps: the middle is step 3; the hidden states come on between 2 and 3."""
    subject = subjects("bart", SHALLOW, CHANGING)
    objective = subject.objective()
    proofs = list(reference_proofs(subject, objective))
    assert failed(proofs) == []
    claims = [proof.claim for proof in proofs]
    assert "the term hidden_decoder at step 3" in claims and "the term hidden_decoder at step 2" not in claims
    assert {"the loss at step 2", "the loss at step 3", "the gradient of the loss at step 3"} <= {*claims}
    right = StepSchedule.scheduled
    monkeypatch.setattr(StepSchedule, "scheduled", lambda self, step: right(self, step - 1))
    assert any("the term logits is" in line and "at step 3" in line for line in failed(list(reference_proofs(subject, subject.objective()))))


def gap_sum(inputs: TermInputs, settings: Any) -> torch.Tensor:
    """A package's term: the squared distance of the last states."""
    assert inputs.teacher is not None and inputs.student.last_state is not None
    error = (inputs.student.last_state - inputs.teacher.last_state).square().mean(-1)
    return error[inputs.labels != -100].sum()


def gap_mean(inputs: TermInputs, settings: Any) -> torch.Tensor:
    assert inputs.teacher is not None and inputs.student.last_state is not None
    valid = inputs.labels != -100
    return (inputs.student.last_state[valid] - inputs.teacher.last_state[valid]).pow(2).mean()  # type: ignore[index]


def test_a_term_of_a_package_is_held_to_what_it_says(subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name of one of ours, whose entry point is there."""
    subject = subjects("bart", SHALLOW, OF_LOGITS)
    settings = subject.stage.settings
    own = replace(settings.objective, own={"embedding": {"weight": 0.5}})
    subject = replace(subject, stage=replace(subject.stage, settings=replace(settings, objective=own)))
    whole = Term(
        sum=gap_sum, items="label-tokens", needs=frozenset({"last-state", "teacher"}), reference=gap_mean,
        zero_when_equal=True,
    )  # fmt: skip

    def proofs_with(term: Term) -> dict[str, Proof]:
        with monkeypatch.context() as patch:
            patch.setattr(TERMS, "_loaded", {"embedding": term})
            found = [*reference_proofs(subject, subject.objective()), *prove_identity(subject)]
        return {proof.claim: proof for proof in found}

    proofs = proofs_with(whole)
    assert failed(list(proofs.values())) == []
    for claim in ("the term embedding", "the gradient of the loss", "student := teacher: embedding"):
        assert proofs[claim].state == "proved"
    proofs = proofs_with(replace(whole, reference=lambda inputs, settings: 2 * gap_mean(inputs, settings)))
    assert "by the reference of its package" in proofs["the term embedding"].note
    silent = proofs_with(replace(whole, reference=None, zero_when_equal=False))
    assert silent["the term embedding, and with it the loss"].state == "exempt"
    assert silent["student := teacher: embedding"].state == "exempt" and "the loss" not in silent


DEFECTS: list[tuple[Plant, str, str]] = [
    (
        off_by_one_phi,
        "R317",
        "student encoder layer 0 is not held to the output of teacher layer 1 but to that of layer 0",
    ),
    (missing_temperature_squared, "R317", "the term logits is .*: the factor T² = 4 is missing"),
    (
        mean_over_padding,
        "R317",
        "the term hidden_decoder is .*: it is summed over the decoder's input, not over the label",
    ),
    (teacher_in_train_mode, "R314", "of the teacher is in train mode"),
    (unfrozen_encoder, "R314", r"model\.encoder\.\S+ is trained, and the plan freezes encoder"),
    (
        shared_encoder,
        "R317",
        r"the student's own encoder feeds the teacher's decoder, and model\.encoder\.\S+ is not the",
    ),
    (wrong_copy, "R315", "decoder layer 1 is not a copy of layer 3 .*; it is layer 2"),
    (unscaled_head, "R311", "the head of the student: its logits are 4 times those of transformers"),
    (vocabulary_padded_with_zeros, "R317", "168 of the teacher.* are padded with zeros"),
    (accumulation_without_weighting, "R312", "the gradient of .* depends on how the step is cut"),
]


@pytest.mark.parametrize(("plant", "code", "place"), DEFECTS, ids=[plant.__name__ for plant, _, _ in DEFECTS])
def test_a_planted_defect_is_found_and_its_place_named(
    plant: Plant, code: str, place: str, subjects: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subject = plant(monkeypatch, subjects, tmp_path)
    failure = diagnosis(prove(subject))
    assert failure is not None
    print(failure.message)
    assert failure.code == code, failure.message
    assert re.search(place, failure.message), failure.message


def with_settings(subject: Subject, **changed: Any) -> Subject:
    return replace(subject, stage=replace(subject.stage, settings=replace(subject.stage.settings, **changed)))


def test_a_rate_that_forgets_its_warm_up_is_found(subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = with_settings(subjects("bart", SHALLOW, OF_LOGITS), schedule="constant")
    monkeypatch.setattr(StepSchedule, "learning_rate", lambda self, step: 1e-3)
    (told,) = failed(list(prove_course(subject)))
    assert told.startswith("(g) the learning rate of each step: the learning rate of step 1 is 0.001, and 0.000333333 by")


SCHEDULES = ("linear", "cosine", "constant", "inverse-sqrt")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_steps_of_each_schedule_are_proved(schedule: str, subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = with_settings(subjects("bart", SHALLOW, OF_LOGITS), schedule=schedule)
    assert failed(list(prove_course(subject))) == []
    right = StepSchedule.learning_rate
    monkeypatch.setattr(StepSchedule, "learning_rate", lambda self, step: right(self, step + 1))
    assert failed(list(prove_course(subject))) != []


def test_steps_of_another_size_and_number_are_found(subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subjects("bart", SHALLOW, OF_LOGITS)
    right = step_schedule.epoch_steps
    for unit, size in (("examples", 4), ("tokens", 40)):
        sized = with_settings(subject, batch=BatchSettings(unit=unit, size=size))
        assert failed(list(prove_course(sized))) == []
        with monkeypatch.context() as patch:
            patch.setattr(step_schedule, "epoch_steps", lambda s, t, u, n, *rest: right(s, t, u, 4 * n, *rest))
            assert any("a step has" in told for told in failed(list(prove_course(sized))))
    with monkeypatch.context() as patch:
        patch.setattr(step_schedule, "epoch_steps", lambda *rest: right(*rest)[1:])
        assert any("times in an epoch" in told for told in failed(list(prove_course(subject))))
    monkeypatch.setattr(StepSchedule, "_count", lambda self: 3)  # of 2 epochs of 3 steps
    assert any("it ends after 1.00 epochs, the plan says 2" in told for told in failed(list(prove_course(subject))))


def test_an_optimizer_with_other_numbers_is_found(subjects: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subjects("bart", SHALLOW, OF_LOGITS)
    right, chosen = course.optimizer_of, subject.settings.optimizer
    for other in ({"betas": (0.8, 0.999)}, {"eps": 1e-3}, {"weight_decay": 0.3}):
        wrong = replace(subject.settings, optimizer=replace(chosen, **other))
        with monkeypatch.context() as patch:
            patch.setattr(course, "optimizer_of", lambda found, settings, wrong=wrong, **named: right(found, wrong, **named))
            assert failed(list(prove_course(subject))) == [
                "(g) the update of the optimizer: betas, eps or weight_decay of the optimizer are not those of the plan "
                "(training.optimizer)"
            ]


def test_an_engine_with_another_clipping_or_precision_is_found(subjects: Made) -> None:
    subject = subjects("bart", SHALLOW, OF_LOGITS)
    config = {**(subject.stage.execution.deepspeed or {}), "gradient_clipping": 0.0, "bf16": {"enabled": True}}
    stage = replace(subject.stage, execution=replace(subject.stage.execution, deepspeed=config))
    clipping, precision = failed(list(prove_course(replace(subject, stage=stage))))
    assert "it clips at 0.0, the plan says 1.0" in clipping and "['bf16'] instead of fp32" in precision


def test_the_command_prints_what_was_proved_and_ends_with_the_diagnosis(
    subjects: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(subjects("bart", SHALLOW, OF_LOGITS).plan.site.workspace).parent
    assert command.main([str(folder)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("verified: ") and " 0 failed, 1 exempt, on 8 rows in " in text
    assert re.search(r"^  ok   the term logits +\d\.\de[+-]\d\d \(at most 1e-07\)$", text, re.MULTILINE), text
    missing_temperature_squared(monkeypatch, subjects, folder)
    assert command.main([str(folder), "--json"]) == 1
    shown = capsys.readouterr()
    (run,) = json.loads(shown.out)["runs"]
    assert not run["passed"] and run["diagnosis"]["code"] == "R317"
    assert {proof["claim"] for proof in run["proofs"] if proof["state"] == "failed" and proof["point"] == "h"} == {
        "the term logits", "the loss", "the gradient of the loss"
    }  # fmt: skip
    assert re.search(r"spec\.yaml:\d+:\d+: R317: the term logits is .*: the factor T² = 4 is missing", shown.err)


def test_a_training_that_would_train_something_else_does_not_begin(
    subjects: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = subjects("bart")
    trained = subject.objective()
    assert trained.teacher is not None
    trained.teacher.model.bfloat16()  # as a training on a GPU has it
    prove_quickly(subject.stage, subject.context(0, 2), trained, subject.rows, subject.tokenizer)
    assert "verify train: the objective is what the plan says, on 4 rows" in capsys.readouterr().out
    assert next(trained.teacher.model.parameters()).dtype == torch.bfloat16
    assert all(parameter.grad is None for parameter in trained.parameters())
    monkeypatch.setattr(quick, "MOST_PARAMETERS", 100)
    prove_quickly(subject.stage, subject.context(0, 1), trained, subject.rows, subject.tokenizer)
    assert "not tried before the first step" in capsys.readouterr().out
    monkeypatch.undo()
    missing_temperature_squared(monkeypatch, subjects, Path())
    with pytest.raises(Failure, match="the factor T² = 4 is missing") as caught:
        prove_quickly(subject.stage, subject.context(0, 1), trained, subject.rows, subject.tokenizer)
    assert caught.value.code == "R317"


def test_without_a_defect_the_same_plans_are_proved(subjects: Made, tmp_path: Path) -> None:
    """That of the logits alone is proved by the command, above."""
    for subject in (subjects("marian", FROZEN, OF_DECODER), padded_teacher(subjects, tmp_path)):
        assert failed(prove(subject)) == []
