"""The training loop: optimizer steps over a DeepSpeed engine until a rule says stop.

In: a model folder and token rows. Out: the best checkpoint as a transformers folder in `context.folder`, and
`training.json`. A step is one batch of the step schedule, cut into micro-batches over the ranks; what the loss is
divided by is the whole step's.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from ..data.rows import Rows
from ..execution.context import Context
from ..extensions import TASKS
from ..failure import Failure, interrupted
from ..files.integrity import Hashes, changed_file, sha256, sync_tree
from ..messages.notices import Notice
from ..models.load import load_tokenizer, model_folder
from ..models.save import save_model
from ..objective.build import objective_of
from ..objective.objective import Objective
from ..objective.teacher import load_teacher
from ..plan.plan import Stage
from ..plan.settings import TrainSettings
from ..protocol import Method
from ..signals.read import Signals, signals_of
from .balance import Balance
from .checkpoint import MARKER, Checkpoints
from .engine import gradient_norm, start_engine, stop_engine, whole_parameters
from .method import METHODS, method_of
from .step import Training, diverged, train_step
from .step_schedule import ENDLESS, Step, StepSchedule
from .stopping import Stopping
from .validation import validate

LOG_EVERY_STEPS = 10
WRITTEN = "written.json"  # beside the best weights: their files as they were written


# What is proved of an objective before its first step; raises `Failure` R31x where it is not what the plan says.
Prove = Callable[[Stage, Context, Objective, Rows, Any, Signals | None], None]


def train(stage: Stage, context: Context, prove: Prove) -> dict[str, Any]:
    """Train, validate, keep the best. `prove` is called before the first step of a training that is not resumed.
    Returns the artifact's summary. Raises `Failure` R3xx."""
    training = _prepare(stage, context, prove)
    checkpoints = Checkpoints(context, training.engine)
    step = _resume(training, checkpoints)
    _run(training, checkpoints, step)
    return _finish(training, checkpoints)


def _prepare(stage: Stage, context: Context, prove: Prove) -> Training:
    settings: TrainSettings = stage.settings
    source = model_folder(context.inputs["model"])
    # A sharded teacher goes to the device weight by weight, when the engine starts.
    device = context.device if stage.execution.teacher_deepspeed is None else "cpu"
    objective = objective_of(settings, context.inputs, device, stage.section)
    teacher = None if objective.teacher is None else objective.teacher.model
    TASKS[settings.task].configure(objective.student, teacher, context.inputs["data"])
    rows = Rows.open(context.inputs["data"], "train")
    step_schedule = StepSchedule(settings, rows, stage.section)
    if (notice := _too_long(step_schedule, stage.optimization)) is not None and context.is_rank_zero:
        context.notices.add(notice)
    reference: dict[str, float] = {}
    if settings.stopping.retention is not None:
        scores = json.loads((context.inputs["reference"] / "metrics.json").read_text("utf-8"))
        reference = {name: entry["value"] for name, entry in scores["validation"].items()}
    assert stage.execution.micro_batch_tokens is not None
    tokenizer = load_tokenizer(source)
    signals = signals_of(stage, context, objective, rows)
    # A resumed training was verified when it began, and of one without a step there is nothing to verify.
    if step_schedule.num_steps and not (context.scratch / MARKER).is_file():
        prove(stage, context, objective, rows, tokenizer, signals)
    methods = _methods(stage, context, objective, step_schedule)  # first: they may look at layers that no term does
    if signals is not None and objective.teacher is not None:
        objective.teacher.drop_layers(*objective.states.idle_stacks(signals.states))
    return Training(
        settings=settings,
        context=context,
        objective=objective,
        engine=start_engine(objective, stage),
        source=source,
        tokenizer=tokenizer,
        rows=rows,
        validation_rows=Rows.open(context.inputs["data"], "validation"),
        step_schedule=step_schedule,
        stopping=Stopping(settings.stopping, reference, step_schedule.num_steps),
        balance=Balance(objective.paths(), step_schedule.changes, step_schedule.warmup_steps, stage.section),
        micro_batch_tokens=stage.execution.micro_batch_tokens,
        signals=signals,
        methods=methods,
    )


def _methods(stage: Stage, context: Context, objective: Objective, step_schedule: StepSchedule) -> tuple[Method, ...]:
    """What acts on the student before each step, ready to. A teacher that is sharded over the devices is read once more
    for a way to train that looks at it: its layers are run one by one, on each device alone."""
    settings: TrainSettings = stage.settings
    if settings.method is None or not step_schedule.num_steps:
        return ()
    path = f"{stage.optimization}.method"
    method = method_of(settings.method, settings.seed, step_schedule.num_steps, step_schedule.steps_in, path)
    teacher = None
    if METHODS[settings.method.name].needs_teacher:
        if objective.teacher is not None and stage.execution.teacher_deepspeed is None:
            teacher = objective.teacher.model
        else:
            folder = model_folder(context.inputs["teacher"])
            loaded = load_teacher(folder, objective.student, settings.freeze, settings.precision)
            teacher = loaded.to(context.device).model
    method.begin(objective.student, teacher)
    return (method,)


def _too_long(step_schedule: StepSchedule, optimization: str) -> Notice | None:
    """A warm-up that the training ends within; how many steps it has is known with its rows. `optimization`: where the
    spec says it, `Stage.optimization`."""
    if step_schedule.warmup_steps < step_schedule.num_steps or not step_schedule.num_steps:
        return None
    return Notice(
        "R358",
        f"the warm-up takes {step_schedule.warmup_steps:,} steps, and the training ends after "
        f"{step_schedule.num_steps:,}: its learning rate never exceeds "
        f"{step_schedule.learning_rate(step_schedule.num_steps):.2g}",
        "write a shorter one, for example `warmup: {ratio: 0.1}`",
        f"{optimization}.warmup",
    )


def _resume(training: Training, checkpoints: Checkpoints) -> int:
    found = checkpoints.resume()
    training.engine.train()  # loading leaves the module as it was made
    if found is None:
        return 0
    step, state = found
    training.load_state(state)
    return step


def _run(training: Training, checkpoints: Checkpoints, step: int) -> None:
    context, stopping = training.context, training.stopping
    save_minutes = context.stage.execution.save_minutes
    save_seconds = math.inf if save_minutes is None else save_minutes * 60
    begun = saved = time.monotonic()
    seconds_before = stopping.progress.seconds
    record = _Record(training)
    if stopping.reason(step) is not None:  # a model that is not trained; one between its end and its publication
        if stopping.progress.validated_step < step or stopping.progress.best is None:
            _validate(training, step)
            checkpoints.save(step, training.state())
        return
    total = training.step_schedule.num_steps
    with context.progress.task("training", None if total == ENDLESS else total, "steps") as update:
        while True:
            for planned in training.step_schedule.steps(after=step):
                train_step(training, planned, record)
                step = planned.number
                now = time.monotonic()
                stopping.progress.seconds = seconds_before + now - begun
                if step % LOG_EVERY_STEPS == 0 or planned.validate:
                    record.flush()
                update(step, record.note)
                stop = context.stop_requested()
                if planned.validate:
                    record.pause()
                    _validate(training, step)
                    record.go_on()
                reason = _agree(context, stopping.reason(step))
                if reason is not None and stopping.progress.validated_step < step:  # time is up between validations
                    record.flush()
                    _validate(training, step)
                due = _agree(context, time.monotonic() - saved >= save_seconds)
                if planned.validate or due or stop or reason is not None:
                    record.flush()
                    checkpoints.save(step, training.state())
                    saved = time.monotonic()
                if reason is not None:
                    return
                if stop:
                    raise interrupted(context.stage.id)


def _validate(training: Training, step: int) -> None:
    """Validate after `step`; the weights are kept if they are the best so far. Raises `Failure` R301: a score is not
    finite."""
    with training.plain_student():
        scores = validate(training, step)
        wrong = [name for name, value in scores.items() if not math.isfinite(value)]
        if wrong:
            raise diverged(training, f"the validation after step {step} gives no finite {' and no '.join(wrong)}")
        if training.stopping.validated(scores, step):
            _keep_best(training)


def _agree(context: Context, value: Any) -> Any:
    """Rank 0's value on every rank: what depends on the clock must not differ between ranks."""
    return context.gather(value)[0]


class _Record:
    """What is logged of the steps: kept on the device, brought to the host every few steps."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._pending: list[tuple[Step, torch.Tensor, dict[str, float]]] = []
        paths, self._changes = training.objective.paths(), training.step_schedule.changes
        self._names = sorted(paths)
        self._scheduled = [name for name in self._names if paths[name] in self._changes]
        self._tokens = 0
        self._since = time.monotonic()
        self._paused = 0.0
        self.note = ""

    def add(self, step: Step, terms: Mapping[str, torch.Tensor]) -> None:
        rows = self._training.rows
        self._tokens += int(rows.source_lengths[step.ids].sum() + rows.target_lengths[step.ids].sum())
        values = torch.stack([terms[name].float() for name in self._names])  # (terms,)
        self._pending.append((step, values, self._training.objective.weights()))

    def pause(self) -> None:
        """Stop the clock of tokens per second while something else is done."""
        self._paused = time.monotonic()

    def go_on(self) -> None:
        self._since += time.monotonic() - self._paused

    def flush(self) -> None:
        """Sum over ranks, check, write. Raises `Failure` R301: a loss is not a number."""
        if not self._pending:
            return
        training = self._training
        context = training.context
        values = torch.stack([values for _, values, _ in self._pending])  # (steps, terms)
        if context.world > 1:
            dist.all_reduce(values)
        elapsed = max(1e-9, time.monotonic() - self._since)
        for (step, _, weights), row in zip(self._pending, values.tolist(), strict=True):
            self._require_finite(step, row)
            weighted = [weights[name] * value for name, value in zip(self._names, row, strict=True)]
            loss = sum(weighted)
            learning_rate = training.step_schedule.learning_rate(step.number)
            metrics = {"loss/total": loss, "learning_rate": learning_rate, "epoch": step.epochs_done}
            metrics |= {f"loss_weight/{name}": weights[name] for name in self._scheduled}
            if "logits.temperature" in self._changes:
                metrics["temperature"] = self._changes["logits.temperature"].at(step.number)
            training.balance.add(step.number, dict(zip(self._names, row, strict=True)), weights)
            for notice in training.balance.notices():
                context.notices.add(notice)
            for name, value, part in zip(self._names, row, weighted, strict=True):
                metrics[f"loss/{name}"] = value
                if len(self._names) > 1:
                    metrics[f"loss_weighted/{name}"] = part
                    metrics[f"loss_share/{name}"] = part / loss if loss else 0.0
            if step is self._pending[-1][0]:
                metrics["speed/tokens_per_second"] = self._tokens / elapsed
                norm = gradient_norm(training.engine)
                if norm is not None:
                    metrics["gradient_norm"] = norm
            context.journal.log(metrics, step.number)
        best = training.stopping.progress.best
        shown = "" if best is None else f" | best {training.settings.stopping.monitor} {best:.2f}"
        self.note = f"loss {loss:.3f} | {self._tokens / elapsed:,.0f} tokens/s{shown}"
        self._pending.clear()
        self._tokens, self._since = 0, time.monotonic()

    def _require_finite(self, step: Step, values: list[float]) -> None:
        wrong = [name for name, value in zip(self._names, values, strict=True) if not math.isfinite(value)]
        if wrong:
            ids = [self._training.rows.raw(int(i))["id"] for i in step.ids[:5]]
            raise diverged(
                self._training,
                f"the loss is not finite at step {step.number} (term {', '.join(wrong)}; first examples of the step: "
                f"{', '.join(map(str, ids))})",
            )


def _keep_best(training: Training) -> None:
    """Write the current weights as the best so far (replaced by rename)."""
    context = training.context
    with whole_parameters(training.engine):
        if context.is_rank_zero:
            new, best = context.scratch / "best.new", context.scratch / "best"
            shutil.rmtree(new, ignore_errors=True)
            save_model(training.objective.student, new, tokenizer=training.source)
            files = {
                file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in sorted(new.iterdir())
            }
            (new / WRITTEN).write_text(json.dumps(files, allow_nan=False), "utf-8")
            sync_tree(new)
            shutil.rmtree(best, ignore_errors=True)
            new.rename(best)
    context.barrier()


def _take_best(context: Context) -> None:
    """Copy the best weights into the artifact. Raises `Failure` R304: they are not what was written."""
    best = context.scratch / "best"
    changed = changed_file(best, json.loads((best / WRITTEN).read_text("utf-8")), Hashes())
    if changed is not None:
        raise Failure(
            "R304",
            f"the best weights of the interrupted stage {context.stage.id} are damaged: "
            f"{best / changed[0]} {changed[1]}",
            f"start the stage over: --redo {context.stage.id}",
        )
    for file in best.iterdir():
        if file.name != WRITTEN:
            shutil.copy2(file, context.folder / file.name)


def _finish(training: Training, checkpoints: Checkpoints) -> dict[str, Any]:
    """Put the best model into the artifact, with what is known of its training."""
    context, progress = training.context, training.stopping.progress
    step = checkpoints.last_step()
    reason = training.stopping.reason(step)
    last = training.step_schedule.steps(after=step - 1) if step else []
    epochs = next((planned.epochs_done for planned in last), 0.0)
    result = {
        "stopped_by": reason,
        "steps": step,
        "epochs": round(epochs, 4),
        "best_step": progress.best_step,
        "best": progress.best,
        "best_metrics": progress.best_metrics,
        "monitor": training.settings.stopping.monitor,
        "seconds": progress.seconds,
    }
    if context.is_rank_zero:
        _take_best(context)
        (context.folder / "training.json").write_text(
            json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8"
        )
    stop_engine(training.engine)
    if training.objective.teacher is not None:
        training.objective.teacher.destroy()
    line = f"{step} steps, {reason}; best {result['monitor']} {progress.best:.3f} at step {progress.best_step}"
    return {**result, "line": line}
