"""One process of a launch: runs the stages that it was given, in order.

    python -m distilc.runtime worker PLAN --stages data,train --control DIR

Started by the launcher, one process a device (or by the driver itself, `--in-process`). Every rank walks the
same list; rank 0 decides through the store what is computed. Success is a published artifact.
"""

from __future__ import annotations

import gc
import json
import os
import re
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from ..extensions import Registry, blamed, entry_of, require
from ..failure import Failure, interrupted
from ..messages.notices import FILE, Notice, Notices
from ..plan.binding import as_written
from ..plan.plan import Plan, Stage
from ..protocol import StageKind
from .code_identity import require_same_code
from .context import Context, Journal, Progress
from .control import Control
from .processes import Ranks, StopRequest, join, watch_driver
from .store import Store, open_store
from .unforeseen import unforeseen

STAGE_KINDS: Registry[StageKind] = Registry("stages", StageKind)
WAIT_SECONDS = 0.5


def work(plan: Plan, stages: Sequence[str], control: Control, log: Path | None = None) -> int:
    """Run the named stages. Returns the exit code: 0, or that of the first failure. `log`: takes tracebacks; None:
    standard error is the log of the run already."""
    at = ""
    try:
        control.begin(int(os.environ.get("RANK", "0")))
        driver_gone = watch_driver(control.driver_file)  # before ranks that may never come are waited for
        ranks = join(plan.site.device)
        stop = StopRequest(control.stop_file, driver_gone, ranks)
        require([plan.stage(id) for id in stages])
        for id in stages:
            at = id
            if stop.agreed():
                raise interrupted(id)
            if (code := control.code()) is not None:
                require_same_code(code)
            stage = plan.stage(id)
            run_stage(plan, stage, open_store(plan.site, stage.kind), control, ranks, stop)
            gc.collect()
    except Failure as failure:
        owner = at.rpartition("/")[0]
        if owner and failure.spec_path is not None:
            failure.spec_path = f"{owner}/{failure.spec_path}"  # a stage of another spec's run
        control.fail(failure)
        return failure.exit_code
    except Exception as error:
        if control.folder.is_dir():  # else the workspace was deleted, which the driver reports
            _keep_traceback(log)
        control.fail(_diagnosis(error, "the log of the run" if log is None else str(log)))
        return 1
    return 0


def run_stage(
    plan: Plan, stage: Stage, store: Store, control: Control, ranks: Ranks, stop: StopRequest
) -> None:
    """One stage on all ranks: computed once, by whoever holds its lease; otherwise waited for."""
    kind = STAGE_KINDS[stage.kind]
    context = Context(
        plan=plan,
        stage=stage,
        folder=store.work(stage.key),
        scratch=store.scratch(stage.key),
        inputs={},
        rank=ranks.rank,
        world=ranks.world,
        device=ranks.device,
        journal=Journal(None),
        hashes=store.hashes(stage.key),
        progress=Progress(control.progress_file if ranks.rank == 0 else None, stage.id),
        stop_requested=stop.agreed if kind.parallel else stop.here,
    )
    while True:
        with store.lease(stage.key) if context.is_rank_zero else nullcontext(False) as mine:
            published = context.gather(store.has(stage.key))[0]
            computing = context.gather(mine)[0] and not published
            if computing:
                _compute(kind, context, store, control)
        if published or computing:
            return
        with context.progress.task("another run is at work on it: waiting", None) as update:
            update(0)
        time.sleep(WAIT_SECONDS)
        if any(context.gather(stop.here())):
            raise interrupted(stage.id)


def _compute(kind: StageKind, context: Context, store: Store, control: Control) -> None:
    stage = context.stage
    if context.is_rank_zero:
        store.make_scratch(stage.key)
    context.inputs = _inputs(context, store)
    earlier, started = _seconds_before(context.scratch), time.monotonic()
    context.journal = Journal(context.folder / "metrics.jsonl" if context.is_rank_zero else None)
    if context.is_rank_zero:
        owner = stage.id.rpartition("/")[0]
        context.notices = Notices(context.folder / FILE, control.warnings_file, owner)
        _report_damage(context)
    summary = {}
    if kind.parallel or context.is_rank_zero:
        with blamed(entry_of("stages", stage.kind)):
            summary = kind.run(stage, context)
    context.barrier()
    if context.is_rank_zero:
        seconds = earlier + time.monotonic() - started
        store.publish(
            stage.key,
            kind=stage.kind,
            stage=stage.id,
            seconds=seconds,
            summary=summary,
            settings=as_written(stage.settings),
            needs={role: context.plan.stage(id).key for role, id in stage.needs.items()},
        )
    context.barrier()


def _inputs(context: Context, store: Store) -> dict[str, Path]:
    """Role -> the folder of what the stage reads, verified by rank 0 for all ranks.

    Raises `Failure` on every rank: R401, R224: something is not what was written."""
    stages = {role: context.plan.stage(id) for role, id in context.stage.reads.items()}
    found: dict[str, Path] | Failure = {}
    if context.is_rank_zero:
        try:
            wait = partial(_report_wait, context)
            found = {role: store.folder(stage.key, wait=wait, stage=stage.id) for role, stage in stages.items()}
        except Failure as failure:
            found = failure
    found = context.gather(found)[0]
    if isinstance(found, Failure):
        raise found
    return found


def _report_wait(context: Context, name: str) -> None:
    with context.progress.task(f"verifying the hash of {name}", None):
        pass


def _report_damage(context: Context) -> None:
    number = context.journal.num_damaged
    if number:
        lines = "a line" if number == 1 else f"{number:,} lines"
        context.notices.add(
            Notice(
                "R409",
                f"{lines} of {context.folder / 'metrics.jsonl'} of the interrupted stage {context.stage.id} cannot be "
                "read: its curves lack the steps that are not computed again; the result does not depend on them",
                f"if the curves matter, have it computed again: --redo {context.stage.id}",
                "",
            )
        )


def _seconds_before(scratch: Path) -> float:
    """Time that interrupted attempts had spent, as far as the stage noted it (`seconds.json`)."""
    try:
        return float(json.loads((scratch / "seconds.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return 0.0


def _keep_traceback(log: Path | None) -> None:
    """The traceback of the current exception. A disk may be too full for it."""
    if log is None:
        traceback.print_exc()
        return
    with suppress(OSError):
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)


def _diagnosis(error: Exception, log: str) -> Failure:
    found = unforeseen(error, memory=LESS_MEMORY, kept=lambda: log)
    if found.code == "R999" and re.search("address already in use|EADDRINUSE", str(error), re.IGNORECASE):
        return Failure(
            "R405",
            "the port at which the processes meet was taken by another program in the meantime",
            "run the same command again",
            exit_code=75,
        )
    if found.code == "R999" and re.search(r"gloo|nccl|connection (reset|closed) by peer", str(error), re.IGNORECASE):
        return Failure(
            "R405",
            "a process of the run was lost (killed, or its node went away)",
            "the same command goes on from the last checkpoint",
            exit_code=75,
        )
    return found


LESS_MEMORY = (
    "give the site a smaller micro_batch_tokens, or `checkpointing: true`; with several devices `zero: 3` or "
    "`shard_teacher: true`; with AdamW on a GPU `offload: optimizer`. The result does not depend on them"
)
