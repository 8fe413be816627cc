"""Ours: the objective, the engine, the course and the cached signals of the product, put together as its training
loop does. `signals`: fill the cache first, and read it in every step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor

from distilc.runtime.data.batches import collate, micro_batches
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.models.forward import first_stack_digest
from distilc.runtime.objective.objective import Objective, factors_of
from distilc.runtime.objective.teacher import Teacher
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import (
    BatchSettings,
    HiddenTerm,
    LabelsTerm,
    LayerMaps,
    LogitsTerm,
    ObjectiveSettings,
    OptimizerSettings,
    SignalsSettings,
    StoppingSettings,
    TrainSettings,
    ValidationSettings,
)
from distilc.runtime.signals.fill import Filling
from distilc.runtime.signals.read import Signals, with_signals
from distilc.runtime.training.engine import backward, set_learning_rate, start_engine
from distilc.runtime.training.step_schedule import Step, StepSchedule

from . import setting as s

MICRO_BATCH_TOKENS = 4096  # what the compiler gives to a CPU
DEEPSPEED = {
    "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": s.CLIPPING,
    "zero_allow_untested_optimizer": True, "zero_optimization": {"stage": 0}, "steps_per_print": 10**9,
}  # fmt: skip
Technique = Literal["sft", "kd"]


class Product:
    def __init__(self, setting: s.Setting, technique: Technique = "kd") -> None:
        self.setting, self.rows = setting, setting.rows
        self.student = setting.new_student()
        self.signals: Signals | None = None
        teacher = Teacher(setting.decoder_teacher(), shared=("encoder",)) if technique == "kd" else None
        self.objective = Objective(self.student, _objective(technique), s.FROZEN, teacher)
        settings = _train_settings(self.objective)
        self.step_schedule = StepSchedule(settings, self.rows)
        self.engine = start_engine(self.objective, _stage("train", settings))
        self.engine.train()

    def fill(self) -> None:
        """The `signals` stages: both sides, the encoder's first."""
        found: dict[str, Path] = {}
        digest = first_stack_digest(self.setting.teacher)
        for side, layers in (("encoder", ()), ("decoder", s.PHI)):
            settings = SignalsSettings(side=side, last=True, layers=layers, precision="fp32")  # type: ignore[arg-type]
            folder, scratch = (self.setting.folder / "signals" / side / name for name in ("artifact", "scratch"))
            scratch.mkdir(parents=True)
            folder.mkdir()
            kept = Signals(found, self.rows) if found else None
            context = _context(_stage("signals", settings), folder, scratch)
            Filling(
                self.setting.teacher, self.rows, settings, context, pad_id=s.PAD, encoder=digest, encoder_signals=kept
            ).run()
            found[side] = folder
        self.signals = Signals(found, self.rows)

    def epoch(self, epoch: int) -> None:
        for step in self.steps(epoch):
            self.step(step)

    def steps(self, epoch: int) -> list[Step]:
        return self.step_schedule.steps(after=epoch * (self.step_schedule.num_steps // s.EPOCHS))

    def step(self, step: Step) -> None:
        factors = self._factors(step.ids)
        set_learning_rate(self.engine, self.step_schedule.learning_rate(step.number))
        parts = self.parts(step)
        for index, batch in enumerate(parts):
            share, _ = self.engine(batch, factors)
            backward(self.engine, share, last=index == len(parts) - 1)
        self.engine.step()

    def parts(self, step: Step) -> list[dict[str, Tensor]]:
        """The micro-batches of a step."""
        rows = self.rows
        cut = micro_batches(step.ids, rows.source_lengths, rows.target_lengths, 1, MICRO_BATCH_TOKENS)
        return [with_signals(collate(rows, ids, s.PAD), self.signals, ids) for (ids,) in cut]

    def _factors(self, ids: Any) -> Any:
        return factors_of({"label-tokens": int(self.rows.target_lengths[ids].sum())}, world=1)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        share, _ = self.objective(batch, factors_of({"label-tokens": int((batch["labels"] != -100).sum())}, world=1))
        return share


def _objective(technique: Technique) -> ObjectiveSettings:
    kd = technique == "kd"
    logits = LogitsTerm(
        weight=s.LOGITS, temperature=s.TEMPERATURE, divergence="forward-kl", beta=None, alpha=None, positions=None
    )
    return ObjectiveSettings(
        labels=LabelsTerm(weight=s.LABELS, smoothing=0.0),
        logits=logits if kd else None,
        hidden=HiddenTerm(encoder=0.0, decoder=s.HIDDEN, layer_norm="none", align="outputs") if kd else None,
        attention=None,
        cosine=None,
        embedding=None,
        own={},
        phi=LayerMaps(encoder=None, decoder=s.PHI) if kd else None,
    )


def _train_settings(objective: Objective) -> TrainSettings:
    return TrainSettings(
        task="summarization",
        seed=0,
        precision="fp32",
        objective=_objective("kd"),
        masking=None,
        freeze=s.FROZEN,  # type: ignore[arg-type]
        batch=BatchSettings(unit="examples", size=s.BATCH_EXAMPLES),
        learning_rate=s.LEARNING_RATE,
        schedule="linear",
        warmup_steps=0,
        warmup_ratio=None,
        optimizer=OptimizerSettings(name="adamw", betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
        gradient_clipping=s.CLIPPING,
        dropout=None,
        stopping=StoppingSettings(
            max_epochs=s.EPOCHS,
            max_steps=None,
            max_hours=None,
            patience=None,
            monitor="loss",
            min_delta=0.0,
            retention=None,
        ),
        validation=ValidationSettings(every_epochs=1, every_steps=None, limit=None, metrics=("loss",), generation=None),
        trainable_parameters=sum(p.numel() for p in objective.student.parameters() if p.requires_grad),
    )


def _stage(kind: str, settings: Any) -> Stage:
    execution = Execution(locations={}, micro_batch_tokens=MICRO_BATCH_TOKENS, save_minutes=None, deepspeed=DEEPSPEED)
    return Stage(id=kind, kind=kind, key="", needs={}, settings=settings, execution=execution)


def _context(stage: Stage, folder: Path, scratch: Path) -> Context:
    plan: Any = SimpleNamespace(task="summarization")
    return Context(
        plan=plan, stage=stage, folder=folder, scratch=scratch, inputs={}, rank=0, world=1, device="cpu",
        journal=Journal(None), progress=Progress(None, stage.id),
    )  # fmt: skip
