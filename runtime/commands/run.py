"""Runs a plan: looks into the store, launches the workers for what is missing, collects the results.

In: a plan folder. Out: `<workspace>/runs/<name>-<key8>/` with summary.json, metrics.jsonl and logs; the exit
code. The driver imports neither torch nor deepspeed: a plan whose artifacts are all there ends in seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..available import check_available, check_packages
from ..execution.code_identity import code_identity
from ..execution.console import Console
from ..execution.control import Control, make_control
from ..execution.launch import Launch, become_single_process, require_devices
from ..execution.pending import STUDENT, pending_stages
from ..execution.stop_signal import StopSignal, stop_on_signal
from ..execution.store import Store, discard, open_store
from ..execution.unforeseen import is_full, no_space, try_space
from ..extensions import require
from ..failure import Failure, interrupted
from ..messages.notices import FILE, OF_EVERY_RUN, read_notices
from ..plan.load import load_plan
from ..plan.plan import Plan, Stage, is_beside_plan
from ..report.model_card import model_card
from ..report.suite import suite_table
from ..report.summary import summarize
from ..report.table import in_markdown, shown, table_markdown, table_text
from ..tracking import Tracker, database_fault, ui_command
from .trained_as import RECORD, record_text

POLL_SECONDS = 0.2
TRACKING_WAIT_SECONDS = 20.0
LAST_SECONDS = 10.0  # for a process that is to kill itself


@dataclass(frozen=True)
class Options:
    """`until`: the last stage to run; `redo`: stages to compute again, with all that depends on them;
    `workspace`: instead of the plan's."""

    until: str | None = None
    redo: Sequence[str] = ()
    in_process: bool = False
    workspace: Path | None = None


@dataclass
class Session:
    """What the runs of one command share: keys of the artifacts that were discarded; a hash of the code when the
    command began; key of a stage that failed -> the name of the run in which it did; the exit code for a stop request
    that came while the last stage of a run was ending."""

    discarded: set[str] = field(default_factory=set)
    code: str = field(default_factory=lambda: code_identity().code)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: int = 0


@dataclass
class Run:
    """One plan that is run: what it reads, where it writes, whom it reports to."""

    plan: Plan
    folder: Path
    store: Store
    control: Control
    console: Console
    tracker: Tracker
    options: Options
    cached: set[str] = field(default_factory=set)  # stage ids that were in the store at the start
    reported: set[str] = field(default_factory=set)  # stage ids whose artifact the tracker knows
    num_warnings: int = 0  # of the workers, that were shown
    stopped: int = 0  # exit code for a stop request that came


def main(folders: Sequence[Path], options: Options) -> int:
    """Run plans one after the other; the exit code is the first one that is not 0. What several of them need is
    computed once, by the first, and not tried again when it failed."""
    console = Console()
    plans = [_loaded(folder) for folder in folders]
    try:
        _require_stages([plan for plan in plans if isinstance(plan, Plan)], options)
    except Failure as failure:
        console.failure(failure, None)
        return failure.exit_code
    results: dict[Path, int] = {}
    session = Session()
    for folder, plan in zip(folders, plans, strict=True):
        if session.stopped:
            name = plan.name if isinstance(plan, Plan) else folder.name
            console.failure(Failure("R300", f"stopped before {name}", "the same command goes on from here"), None)
            return session.stopped
        try:
            if isinstance(plan, Failure):
                raise plan
            check_available(plan)
            check_packages(plan)
            results[folder] = run(plan, folder, options, console, session)
        except Failure as failure:
            console.failure(failure, None)
            results[folder] = failure.exit_code
        except OSError as error:
            if not is_full(error):
                raise
            console.failure(no_space(error), None)
            results[folder] = 1
        if results[folder] in (75, 130):
            return results[folder]
    if len(folders) > 1:
        named = zip(folders, plans, strict=True)
        failed = [plan.name if isinstance(plan, Plan) else folder.name for folder, plan in named if results[folder]]
        if options.until is None:
            _show_suite([plan for plan in plans if isinstance(plan, Plan)], options, console)
        console.count(failed, len(folders))
    return next((result for result in results.values() if result), 0)


def _show_suite(plans: Sequence[Plan], options: Options, console: Console) -> None:
    """One table of the runs that are done, where they are on several data sets; it is also kept in the workspace."""
    files = [_run_folder(_placed(plan, options)) / "summary.json" for plan in plans]
    found = suite_table([json.loads(file.read_text("utf-8")) for file in files if file.is_file()])
    if found is None:
        return
    table, note = found
    file = Path(_placed(plans[0], options).site.workspace) / "suites" / f"{table.title}.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{in_markdown(table)}\n\n{note}\n", "utf-8")
    console.print(shown(table, console.width))
    console.say(note)
    console.say(f"suite:   {file}")


def _placed(plan: Plan, options: Options) -> Plan:
    """With the workspace that was asked for."""
    if options.workspace is None:
        return plan
    return replace(plan, site=replace(plan.site, workspace=str(options.workspace.absolute())))


def _run_folder(plan: Plan) -> Path:
    return Path(plan.site.workspace) / "runs" / f"{plan.name}-{plan.key[:8]}"


def _loaded(folder: Path) -> Plan | Failure:
    try:
        return load_plan(folder)
    except Failure as failure:
        return failure


def run(plan: Plan, folder: Path, options: Options, console: Console, session: Session) -> int:
    """Run one plan. Returns the exit code (0, 1, 75, 130). Raises `Failure` when it cannot even begin."""
    plan = _placed(plan, options)
    workspace = Path(plan.site.workspace)
    store = open_store(plan.site)
    run_folder = _run_folder(plan)
    with ExitStack() as here:
        try:
            # A plan's own workspace lies where it was compiled: for a path that was damaged no folders are made.
            if options.workspace is None:
                workspace.parent.stat()
            workspace.mkdir(parents=True, exist_ok=True)
            run_folder.mkdir(parents=True, exist_ok=True)
            _copy_plan(folder, run_folder, plan.site.workspace)
            control = make_control(run_folder)
            control.report_code(session.code)
            here.enter_context(control.driven())
            _redo(plan, options.redo, session)
        except OSError as error:
            if is_full(error):
                raise no_space(error) from error
            raise Failure(
                "R404",
                f"cannot write into the workspace {workspace}: {error.strerror}",
                "give another one with --workspace DIR",
            ) from error
        try:
            return _run(plan, run_folder, store, control, options, console, session)
        except OSError as error:
            if run_folder.is_dir():
                raise
            raise _removed(run_folder) from error


def _removed(run_folder: Path) -> Failure:
    return Failure("R408", f"the folder of the run was removed while it ran: {run_folder}",
                   "the same command begins anew with what is in the store")  # fmt: skip


def _run(
    plan: Plan, run_folder: Path, store: Store, control: Control, options: Options, console: Console, session: Session
) -> int:
    stages = pending_stages(plan, store, options.until)
    require(stages)
    if stages and not options.in_process:
        require_devices(plan)
    _require_undamaged(plan, store)
    for stage in plan.stages:
        open_store(plan.site, stage.kind).tidy(stage.key)
    ids = [stage.id for stage in plan.stages]
    num_later = len(ids) - 1 - ids.index(options.until) if options.until in ids else 0
    console.headline(plan, len(stages), num_later)
    for stage in stages:
        if (failed := session.failed.get(stage.key)) is not None:
            raise Failure(
                "R406", f"{plan.name} needs the stage {stage.id}, which failed for {failed}", "fix that run first"
            )
    this = Run(plan, run_folder, store, control, console, Tracker(plan, run_folder, Path(plan.site.workspace)), options)
    this.tracker.start()
    this.cached.update(stage.id for stage in _report_published(this, cached=True))
    _report_again(this)
    failure = _execute(this, stages) if stages else None
    session.stopped = this.stopped
    if failure is not None and failure.exit_code == 1:
        session.failed[next(stage.key for stage in stages if not store.has(stage.key))] = plan.name
    return _finish(this, failure)


def _require_undamaged(plan: Plan, store: Store) -> None:
    """Are the results that the store has of this run what was written? What is large is looked at when it is read.

    Raises `Failure` R401."""
    for stage in plan.stages:
        if store.has(stage.key):
            store.folder(stage.key, large_files=False, stage=stage.id)


def _redo(plan: Plan, ids: Sequence[str], session: Session) -> None:
    again: dict[str, Stage] = {}
    for stage in plan.stages:
        if stage.id in ids or again.keys() & set(stage.needs.values()):
            again[stage.id] = stage
    require(again.values())  # before anything is thrown away
    fresh = [stage for stage in again.values() if stage.key not in session.discarded]
    discard(plan.site, fresh)
    session.discarded.update(stage.key for stage in fresh)


def _require_stages(plans: Sequence[Plan], options: Options) -> None:
    """Every stage that the command line names must be there, in each plan for `until`, in one for `redo`."""
    for plan in plans:
        ids = [stage.id for stage in plan.stages]
        if options.until is not None and options.until not in ids:
            raise Failure("R105", f"{plan.name} has no stage {options.until!r}", f"its stages: {', '.join(ids)}")
    known = list(dict.fromkeys(stage.id for plan in plans for stage in plan.stages))
    for id in options.redo:
        if plans and id not in known:
            raise Failure("R105", f"there is no stage {id!r}", f"the stages: {', '.join(known)}")


def _execute(run: Run, stages: Sequence[Stage]) -> Failure | None:
    """One launch for all pending stages: what a start costs (imports, rendezvous) is paid once."""
    for stage in stages:
        run.tracker.follow(stage.id, open_store(run.plan.site, stage.kind).root / ".work" / stage.key / "metrics.jsonl")
    failure, ended = None, Ended("", lost=False)
    with stop_on_signal(run.control.stop_file, run.console.say, raise_again=run.options.in_process) as stopping:
        try:
            ended = _work_here(run, stages, stopping) if run.options.in_process else _launch(run, stages, stopping)
        except Failure as told:  # nothing was started
            failure = told
    if stopping.requests:
        run.stopped = 75 if stopping.by_scheduler else 130
    if not run.folder.is_dir():
        return _removed(run.folder)
    _report_warnings(run)
    _report_published(run, cached=False)
    missing = [stage for stage in stages if not run.store.has(stage.key)]
    if not missing:
        return None
    failure = run.control.failure() or failure
    if failure is None or (failure.code == "R405" and stopping.expired()):  # killed, or lost when others were
        failure = _unexplained_end(run, missing[0], ended, stopping)
    if failure.exit_code == 130 and run.stopped:
        failure.exit_code = run.stopped
    if failure.code == "R300" and run.options.redo:
        failure.hint = "the same command without --redo goes on from here"
    run.tracker.stage_failed(missing[0].id, failure.message)
    return failure


@dataclass(frozen=True)
class Ended:
    """How the processes of a run ended, in words; `lost`: something outside ended them."""

    how: str
    lost: bool


def _unexplained_end(run: Run, stage: Stage, ended: Ended, stopping: StopSignal) -> Failure:
    """Why the workers are gone, when none of them reported it."""
    if stopping.requests:  # they were killed at the second request, or when patience ended
        return interrupted(stage.id)
    for folder in (open_store(run.plan.site, stage.kind).root, run.control.folder):
        try:
            try_space(folder)
        except OSError as error:
            if is_full(error):
                return no_space(error)
    if not ended.lost:
        return Failure("R420", f"the processes of stage {stage.id} did not come up ({ended.how})",
                       "the log says more; `distilc doctor` looks at this machine")  # fmt: skip
    return Failure(
        "R405",
        f"the processes of stage {stage.id} ended without an error message ({ended.how}); something outside killed "
        "them, for example for memory",
        "the same command goes on from the last checkpoint",
        exit_code=75,
    )


def _launch(run: Run, stages: Sequence[Stage], stopping: StopSignal) -> Ended:
    """Start the launchers and watch them to their end. Raises `Failure`: nothing was started."""
    log = run.control.log_file
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        launch = Launch(run.plan, run.folder, stages, run.control, output)
    try:
        run.console.launched(run.plan, log)
        _watch(run, lambda: launch.running() and not stopping.expired())
    finally:
        launch.end()
    host, code = launch.first_failure or ("", 0)
    # A worker that has come up tells why it ends, unless it is killed. So does a launcher, in its exit code.
    all_begun = run.control.num_begun() >= run.plan.site.nodes * run.plan.site.per_node
    lost = all_begun or code < 0 or code > 128
    where = f" on {host}" if host else ""
    said = "" if lost else f": {_last_words(log)}"
    return Ended(f"exit code {code}{where}{said}; log: {log}", lost)


def _last_words(log: Path) -> str:
    """The last line of a log that DeepSpeed did not write about itself."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
    own = [line.strip() for line in lines if line.strip() and not re.match(r"\[20\d\d-", line)]
    return own[-1] if own else "nothing is in the log"


def _work_here(run: Run, stages: Sequence[Stage], stopping: StopSignal) -> Ended:
    """All in this very process, for a debugger: one rank, whatever the site says, or a cluster that it runs in."""
    become_single_process(run.plan)
    from ..execution.worker import work

    over = threading.Event()

    def watch() -> None:
        _watch(run, lambda: not over.is_set() and not stopping.expired())
        if not over.wait(LAST_SECONDS):  # in a library that does not come back
            os._exit(75 if stopping.by_scheduler else 130)

    watcher = threading.Thread(target=watch, daemon=True, name="watch")
    watcher.start()
    try:
        code = work(run.plan, [stage.id for stage in stages], run.control, run.control.log_file)
        return Ended(f"exit code {code}", lost=True)
    except KeyboardInterrupt:  # asked twice
        return Ended("interrupted", lost=True)
    finally:
        over.set()
        watcher.join()


def _watch(run: Run, running: Callable[[], bool]) -> None:
    """Show progress and tell of published stages while the workers run."""
    with run.console.live() as show:
        while running():
            time.sleep(POLL_SECONDS)
            progress = run.control.progress()
            if progress is not None and progress["stage"] not in run.reported:  # a stage may end before its bar does
                show(progress)
                run.tracker.stage_started(run.plan.stage(progress["stage"]))
            _report_warnings(run)
            _report_published(run, cached=False)


def _report_warnings(run: Run) -> None:
    """Show what the workers noticed since the last time."""
    warnings = run.control.warnings()
    for warning in warnings[run.num_warnings :]:
        place = run.plan.place(warning["spec_path"])
        run.console.warning(warning["code"], warning["message"], warning["hint"], place)
    run.num_warnings = len(warnings)


def _report_again(run: Run) -> None:
    """Show what concerns this run, too, of what was noticed when artifacts of the store were made."""
    for stage in run.plan.stages:
        if stage.id in run.cached and (folder := run.store.find(stage.key)) is not None:
            for notice in read_notices(folder / FILE):
                if notice["code"] in OF_EVERY_RUN:
                    place = run.plan.place(notice["spec_path"])
                    run.console.warning(notice["code"], notice["message"], notice["hint"], place)


def _report_published(run: Run, cached: bool) -> list[Stage]:
    """Report to tracker and user every stage that is in the store and was not reported yet."""
    new = [stage for stage in run.plan.stages if stage.id not in run.reported and run.store.has(stage.key)]
    for stage in new:
        run.reported.add(stage.id)
        folder, manifest = run.store.find(stage.key), run.store.manifest(stage.key)
        assert folder is not None
        run.tracker.stage_finished(stage.id, manifest, folder, cached=cached)
        if not cached:
            run.console.stage_done(stage, manifest)
    return new


def _finish(run: Run, failure: Failure | None) -> int:
    """Write what came out, tell the tracker, show the table or the diagnosis."""
    complete = failure is None and run.options.until is None
    summary: dict[str, Any] = {}
    artifacts: list[Path] = []
    if complete:
        try:
            _require_undamaged(run.plan, run.store)
            run.store.folder(run.plan.stage(STUDENT).key, stage=STUDENT)  # it is handed over
        except Failure as damaged:
            failure, complete = damaged, False
    if complete:
        summary = summarize(run.plan, run.store, cached=run.cached)
        table = run.folder / "table.md"
        table.write_text(table_markdown(summary), "utf-8")
        artifacts.append(table)
    status: Literal["FINISHED", "FAILED", "KILLED"] = (
        "FINISHED" if failure is None else "KILLED" if failure.exit_code in (75, 130) else "FAILED"
    )
    tracked = run.tracker.finish(status, summary, artifacts, TRACKING_WAIT_SECONDS)
    if complete:
        summary["mlflow_run_id"] = tracked.run_id
        student = _link_student(run, summary)
        _write_json(run.folder / "summary.json", summary)
        run.console.print(table_text(summary, run.console.width))
        ui = "" if database_fault(tracked.uri) else ui_command(tracked.uri)
        run.console.closing(run.folder, student, ui)
    if tracked.message and run.folder.is_dir():  # else there is nothing left that could be sent
        run.console.say(f"warning: R501: {tracked.message}")
    if failure is not None:
        run.console.failure(failure, run.plan.place(failure.spec_path))
        return failure.exit_code
    return 0


def _link_student(run: Run, summary: dict[str, Any]) -> Path:
    """`student/` in the run folder: the files of the published model, which other runs may share, and this
    run's model card. The one of an earlier run stays until this one is whole."""
    folder, new, old = (run.folder / name for name in ("student", "student.new", "student.old"))
    artifact = run.store.folder(run.plan.stage(STUDENT).key, stage=STUDENT)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    for file in artifact.iterdir():
        (new / file.name).symlink_to(os.path.relpath(file, folder))
    (new / "README.md").write_text(model_card(run.plan, summary), "utf-8")
    (new / RECORD).write_text(record_text(run.plan), "utf-8")
    if folder.is_dir():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _copy_plan(folder: Path, run_folder: Path, workspace: str) -> None:
    """The plan as it is run, in the run folder: what the workers read and what is looked up later. Of what lies beside
    it only what `compile` writes, and no links: whatever is copied is also sent to the tracking server. Workers of
    another driver may be reading it now: files are replaced whole, and never by a plan for another workspace."""
    plan = folder / "plan.json" if folder.is_dir() else folder
    tree = json.loads(plan.read_text("utf-8"))
    moved = tree["site"]["workspace"] != workspace
    beside = [file for file in plan.parent.iterdir() if is_beside_plan(file.name) and not file.is_symlink()]
    own = [] if moved else [(plan, "plan.json")]
    for file, name in [*own, *((file, file.name) for file in beside if file.is_file())]:
        target = run_folder / name
        if file.resolve() != target.resolve():
            temporary = _taking_place_of(target)
            shutil.copy2(file, temporary)
            temporary.replace(target)
    if moved:
        tree["site"]["workspace"] = workspace
        _write_json(run_folder / "plan.json", tree)


def _write_json(path: Path, value: Any) -> None:
    temporary = _taking_place_of(path)
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")
    temporary.replace(path)


def _taking_place_of(path: Path) -> Path:
    """A name of this process's own, for what takes that place whole: another driver of the run may be reading there."""
    return path.with_name(f".{path.name}.{os.getpid()}")
