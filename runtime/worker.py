"""One process of a launch: runs the stages that it was given, in order.

    python -m distilc.runtime worker PLAN --stages data,train --control DIR

Started by the launcher, one process a device (or by the driver itself, `--in-process`). Every rank walks the
same list; rank 0 decides through the store what is computed. Success is a published artifact.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from .context import Context, Journal, Progress
from .control import Control
from .extensions import require
from .failure import Failure, interrupted
from .notices import FILE, Notices
from .plan import Plan, Stage, as_written
from .processes import Ranks, StopRequest, join, watch_driver
from .store import Store, open_store
from .unforeseen import unforeseen

SCRATCH = ".scratch"  # what a stage keeps to resume from; dropped before its artifact is published
WAIT_SECONDS = 0.5


def work(plan: Plan, stages: Sequence[str], control: Control) -> int:
    """Run the named stages. Returns the exit code: 0, or that of the first failure."""
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
        if control.folder.is_dir():  # else the workspace was deleted, which the driver tells
            traceback.print_exc()
        control.fail(_diagnosis(error))
        return 1
    return 0


def run_stage(
    plan: Plan, stage: Stage, store: Store, control: Control, ranks: Ranks, stop: StopRequest
) -> None:
    """One stage on all ranks: computed once, by whoever holds its lease; otherwise waited for."""
    module = importlib.import_module(f".stages.{stage.kind.replace('-', '_')}", __package__)
    context = Context(
        plan=plan,
        stage=stage,
        folder=store.work(stage.key),
        scratch=store.work(stage.key) / SCRATCH,
        inputs={role: store.folder(plan.stage(id).key) for role, id in stage.reads.items()},
        rank=ranks.rank,
        world=ranks.world,
        device=ranks.device,
        journal=Journal(None),
        progress=Progress(control.progress_file if ranks.rank == 0 else None, stage.id),
        stop_requested=stop.agreed if module.PARALLEL else stop.here,
    )
    while True:
        with store.lease(stage.key) if context.first else _no_lease() as mine:
            published = context.gather(store.has(stage.key))[0]
            computing = context.gather(mine)[0] and not published
            if computing:
                _compute(module, context, store, control)
        if published or computing:
            return
        with context.progress.task("another run is at work on it: waiting", None) as update:
            update(0)
        time.sleep(WAIT_SECONDS)
        if any(context.gather(stop.here())):
            raise interrupted(stage.id)


def _compute(module: object, context: Context, store: Store, control: Control) -> None:
    stage = context.stage
    earlier, started = _seconds_before(context.scratch), time.monotonic()
    context.scratch.mkdir(parents=True, exist_ok=True)
    context.journal = Journal(context.folder / "metrics.jsonl" if context.first else None)
    if context.first:
        context.notices = Notices(context.folder / FILE, control.warnings_file)
    summary = {}
    if module.PARALLEL or context.first:  # type: ignore[attr-defined]
        summary = module.run(stage, context)  # type: ignore[attr-defined]
    context.barrier()
    if context.first:
        shutil.rmtree(context.scratch, ignore_errors=True)
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


def _seconds_before(scratch: Path) -> float:
    """Time that interrupted attempts had spent, as far as the stage noted it (`seconds.json`)."""
    try:
        return float(json.loads((scratch / "seconds.json").read_text("utf-8")))
    except (OSError, ValueError):
        return 0.0


class _no_lease:
    """The ranks beside rank 0 hold no lease."""

    def __enter__(self) -> bool:
        return False

    def __exit__(self, *_: object) -> None:
        return None


def _diagnosis(error: Exception) -> Failure:
    found = unforeseen(error, memory=LESS_MEMORY, kept=lambda: "the log of the run")
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
