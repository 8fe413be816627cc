"""What a training needs, made ready without training anything: found in the store, or computed where it is cheap."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..available import check_available
from ..execution.console import Console
from ..execution.context import Context, Journal, Progress
from ..execution.control import Control, make_control
from ..execution.store import Store
from ..extensions import require
from ..failure import Failure
from ..plan.plan import Plan, Stage
from ..signals.read import CANDIDATES
from ..verify.subject import trained_student

CHEAP = ("tokenizer", "data", "teacher", "student", "targets")  # stages that only read, tokenize, copy or mix
POLL_SECONDS = 0.2
USED = ("model", "data", "teacher")  # roles of a training that a batch goes through


@dataclass
class Prepared:
    """`stage`: the training of the stage `student`; `inputs`: role -> folder; `trained`: is the teacher what it will
    be? `original`: are the rows those of the data, where the training will have other targets? `notes`: what is not
    there yet, in words. `others`: role of the training -> is its artifact in the store?"""

    plan: Plan
    stage: Stage
    student: Stage
    inputs: dict[str, Path] = field(default_factory=dict)
    trained: bool = True
    original: bool = False
    notes: list[str] = field(default_factory=list)
    others: dict[str, bool] = field(default_factory=dict)


def prepare(plan: Plan, store: Store, temporary: Path, phase: int = 1) -> Prepared:
    """The rows, the student and, where a term looks at it, the teacher of the plan's student training. `phase`: which
    phase of it, from 1 on; each is shown with the student as it is made.

    Cheap stages that are missing are run and published, as `verify` does; a training or a generation never is.
    What depends on one is made of what there is: a student of the untrained teacher lands in `temporary`. Raises
    `Failure` R106, R310, R367 (a teacher that is itself distilled first) and those of the stages.
    """
    phases, student = trained_student(plan)
    if phase > len(phases):
        count = "one training" if len(phases) == 1 else f"{len(phases)} phases"
        raise Failure("R310", f"{plan.name} has {count}, no phase {phase}", f"--phase takes 1 to {len(phases)}")
    stage = phases[phase - 1]
    made = _Made(plan, store, make_control(temporary))
    prepared = Prepared(plan, stage, student)
    shown = [student, *(plan.stage(id) for id in student.needs.values())]
    known = (*shown, stage, *(found for found in plan.stages if found.kind in ("tokenizer", "data")))
    check_available(replace(plan, stages=tuple(found for found in plan.stages if found in known)))
    require(known)
    prepared.inputs["data"] = _rows(prepared, made)
    teachers = {role: _model(id, prepared, made) for role, id in student.needs.items()}
    folder = made.obtain(student.id)
    prepared.inputs["model"] = folder if folder is not None else _student(prepared, student, teachers, temporary)
    if CANDIDATES in stage.needs:  # of the shown rows they are chosen anew
        prepared.inputs["teacher"] = _model(plan.stage(stage.needs[CANDIDATES]).needs["model"], prepared, made)
    elif "teacher" in stage.needs:
        prepared.inputs["teacher"] = _model(stage.needs["teacher"], prepared, made)
    if len(phases) > 1:
        prepared.notes.append(
            f"phase {phase} of {len(phases)} is shown, on the student before its training (`--phase N` shows another)"
        )
    if not prepared.trained:
        prepared.notes.append(
            "the teacher is not trained yet: teacher and student are shown as they are before its training "
            "(`distilc run --until teacher-train` trains it)"
        )
    prepared.others = {
        role: store.has(plan.stage(id).key) for role, id in stage.reads.items() if role not in (*USED, "reference")
    }
    return prepared


class _Made:
    """Stages of the plan by id, each found or computed once."""

    def __init__(self, plan: Plan, store: Store, control: Control) -> None:
        self.plan, self.store, self.control = plan, store, control

    def obtain(self, id: str) -> Path | None:
        """The folder of a stage. None: it, or something that it needs, has to be trained or generated first."""
        stage = self.plan.stage(id)
        if self.store.has(stage.key):
            return self.store.folder(stage.key, stage=id)
        by_file = stage.kind == "pseudo-labels" and stage.settings.source == "file"
        if stage.kind not in CHEAP and not by_file:
            return None
        if any(self.obtain(need) is None for need in stage.needs.values()):
            return None
        self._run(stage)
        return self.store.folder(stage.key, stage=id)

    def _run(self, stage: Stage) -> None:
        from ..execution.processes import Ranks, StopRequest
        from ..execution.worker import run_stage

        ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
        stop = StopRequest(self.control.stop_file, None, ranks)
        over = threading.Event()
        watch = threading.Thread(target=_watch, args=(self.control, over), daemon=True)
        watch.start()
        try:
            run_stage(self.plan, stage, self.store, self.control, ranks, stop)
        finally:
            over.set()
            watch.join()
        Console().stage_done(stage, self.store.manifest(stage.key))


def _watch(control: Control, over: threading.Event) -> None:
    if not sys.stderr.isatty():
        return
    with Console().live() as show:
        while not over.wait(POLL_SECONDS):
            progress: dict[str, Any] | None = control.progress()
            if progress is not None:
                show(progress)


def _rows(prepared: Prepared, made: _Made) -> Path:
    """The rows that the student will be trained on, or those of the data where labels are missing."""
    plan, id = prepared.plan, prepared.stage.needs["data"]
    folder = made.obtain(id)
    if folder is not None:
        return folder
    targets = plan.stage(id)
    missing = [role for role, need in targets.needs.items() if role != "data" and made.obtain(need) is None]
    names = ", ".join(role.removeprefix("labels.") for role in missing)
    prepared.original = True
    prepared.notes.append(
        f"the pseudo-labels {names} are not written yet: the original targets of the data are shown "
        f"(`distilc run --until {targets.needs[missing[0]] if missing else id}` writes them)"
    )
    base = made.obtain(targets.needs["data"])
    assert base is not None  # a data stage needs a tokenizer and nothing that is trained
    return base


def _model(id: str, prepared: Prepared, made: _Made) -> Path:
    """The folder of a model; where it has to be trained first, of the model that its training starts from."""
    folder = made.obtain(id)
    while folder is None:
        stage = prepared.plan.stage(id)
        if stage.kind != "train" or prepared.plan.stage(stage.needs["model"]).kind == "student":
            raise Failure(
                "R367",
                f"{prepared.plan.name} needs the model of stage {id}, which has to be made first",
                f"distilc run --until {id}",
            )
        prepared.trained = False
        id = stage.needs["model"]
        folder = made.obtain(id)
    return folder


def _student(prepared: Prepared, student: Stage, origins: Mapping[str, Path], temporary: Path) -> Path:
    """The student of what there is, in a temporary folder: it is not the artifact of its stage."""
    from ..stages.student import run

    folder = temporary / "student"
    folder.mkdir()
    make: Callable[[Stage, Context], dict[str, Any]] = run
    make(
        student,
        Context(
            plan=prepared.plan, stage=student, folder=folder, scratch=folder, inputs=origins, rank=0, world=1,
            device="cpu", journal=Journal(None), progress=Progress(None, student.id),
        ),
    )  # fmt: skip
    return folder
