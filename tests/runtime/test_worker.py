"""The worker: what it publishes says what it was made from."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.execution import code_identity, worker
from distilc.runtime.execution.code_identity import CodeIdentity
from distilc.runtime.execution.context import Context
from distilc.runtime.execution.control import Control
from distilc.runtime.execution.processes import Ranks, StopRequest
from distilc.runtime.execution.store import Store
from distilc.runtime.failure import Failure
from distilc.runtime.messages.notices import Notice, Notices, read_notices
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Stage
from distilc.runtime.protocol import StageKind

PLAN = Path(__file__).with_name("sample_plan.json")


def test_an_artifact_records_settings_and_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tree = load_plan(PLAN), json.loads(PLAN.read_text("utf-8"))
    store = Store(tmp_path / "store")
    done = StageKind(run=lambda stage, context: {"line": "done"}, parallel=False)
    monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: done))
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
    stop = StopRequest(control.stop_file, None, ranks)
    for stage in plan.stages:
        worker.run_stage(plan, stage, store, control, ranks, stop)
    for stage in tree["stages"]:
        manifest = store.manifest(stage["key"])
        assert manifest["settings"] == stage["settings"]
        assert manifest["needs"] == {role: plan.stage(id).key for role, id in stage["needs"].items()}


RANKS = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")


@pytest.fixture
def run_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """(id, run) -> a stage of the sample plan, whose work is `run(stage, context)`."""
    plan = load_plan(PLAN)
    control = Control(tmp_path / "control")
    control.folder.mkdir()

    def start(id: str, run: Callable[[Stage, Context], dict[str, Any]]) -> None:
        monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: StageKind(run=run, parallel=False)))
        stop = StopRequest(control.stop_file, None, RANKS)
        worker.run_stage(plan, plan.stage(id), Store(tmp_path / "store"), control, RANKS, stop)

    return start


def test_what_a_stage_resumes_from_is_there_until_it_is_published(
    tmp_path: Path, run_stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        mark = context.scratch / "step"
        found.append(mark.read_text("utf-8") if mark.exists() else "nothing")
        mark.write_text("7", "utf-8")
        (context.folder / "result.txt").write_text("done", "utf-8")
        return {}

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", full)
        with pytest.raises(OSError):
            run_stage("teacher", run)
    run_stage("teacher", run)
    assert found == ["nothing", "7"]
    store, key = Store(tmp_path / "store"), load_plan(PLAN).stage("teacher").key
    assert set(store.manifest(key)["files"]) == {"result.txt"}
    assert not any(key in path.name for path in (tmp_path / "store" / ".work").iterdir())


def test_what_a_stage_reads_is_looked_at_first(tmp_path: Path, run_stage: Callable[..., None]) -> None:
    def write(stage: Stage, context: Context) -> dict[str, Any]:
        (context.folder / "rows.npy").write_bytes(b"rows")
        return {}

    plan, store = load_plan(PLAN), Store(tmp_path / "store")
    reading = next(stage for stage in plan.stages if stage.reads)
    for id in reading.reads.values():
        run_stage(id, write)
    (store.root / plan.stage(next(iter(reading.reads.values()))).key / "rows.npy").write_bytes(b"sows")
    with pytest.raises(Failure, match=r"rows\.npy is not what was written"):
        run_stage(reading.id, write)
    assert not store.has(reading.key)


def test_damaged_lines_of_a_journal_are_told_and_left_out(tmp_path: Path, run_stage: Callable[..., None]) -> None:
    store, key = Store(tmp_path / "store"), load_plan(PLAN).stage("teacher").key
    lines = [json.dumps({"time": 1, "step": step, "metrics": {"loss": 1.0}}) for step in range(3)]
    content = "\n".join([lines[0], "\0" * 50, "[]", lines[2], '{"time'])
    (store.work(key) / "metrics.jsonl").write_text(content, "utf-8")

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        for step in range(3):
            context.journal.log({"loss": 1.0}, step)
        return {}

    run_stage("teacher", run)
    written = (store.folder(key) / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in written] == [0, 2, 1]
    (told,) = Control(tmp_path / "control").warnings()
    assert told["code"] == "R409" and "2 lines" in told["message"] and "--redo teacher" in told["hint"]


def test_damaged_notices_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "warnings.jsonl"
    Notices(file).add(Notice("R311", "m", "h", "loss"))
    whole = file.read_text("utf-8")
    file.write_text("\0\0\0\n{}\n" + whole, "utf-8")
    assert [record["code"] for record in read_notices(file)] == ["R311"]


def test_an_old_and_a_new_version_of_the_code_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the start nor after an upgrade between two stages."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path)))
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    ids, ran = [stage.id for stage in plan.stages], list[str]()
    identity = CodeIdentity("1.0", "a" * 64)

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        ran.append(stage.id)
        monkeypatch.setattr(code_identity, "code_identity", lambda: CodeIdentity("1.1", "b" * 64))
        return {}

    monkeypatch.setattr(code_identity, "code_identity", lambda: identity)
    monkeypatch.setattr(worker, "join", lambda device: RANKS)
    monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: StageKind(run=run, parallel=False)))
    for code, expected in (("c" * 64, []), ("a" * 64, ids[:1])):
        shutil.rmtree(control.folder, ignore_errors=True)
        control.folder.mkdir()
        control.report_code(code)
        assert worker.work(plan, ids, control) == 1
        failure = control.failure()
        assert failure is not None and failure.code == "R410" and ran == expected
    assert "version 1.1" in failure.message and "run the same command again" in failure.hint


@pytest.mark.slow
def test_a_stop_request_ends_the_work_before_the_next_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that do not ask for it themselves are ended and published; what comes after them is not begun."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path)))
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")
    ids, ran = [stage.id for stage in plan.stages], list[str]()

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        ran.append(stage.id)
        if len(ran) == 2:
            control.stop_file.touch()
        return {}

    monkeypatch.setattr(worker, "join", lambda device: ranks)
    monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: StageKind(run=run, parallel=False)))
    assert worker.work(plan, ids, control) == 130
    failure = control.failure()
    assert failure is not None and (failure.code, failure.message) == ("R300", f"stopped in stage {ids[2]}")
    control.stop_file.unlink()
    assert worker.work(plan, ids, control) == 0
    assert ran == ids


def test_a_worker_whose_workspace_is_gone_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver sees it, too, and tells it."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path / "workspace")))
    control = Control(tmp_path / "workspace" / "control")
    ranks = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "workspace")
        context.folder.joinpath("rows").write_text("")
        return {}

    monkeypatch.setattr(worker, "join", lambda device: ranks)
    monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: StageKind(run=run, parallel=False)))
    assert worker.work(plan, [plan.stages[0].id], control) == 1
    assert "Traceback" not in capsys.readouterr().err and control.failure() is None


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device", "x"), "R402"), (ValueError("what is that?"), "R999")]
)
def test_a_traceback_stands_in_the_log_alone(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run in one process, whose standard error is a terminal; the diagnosis says where."""
    plan = load_plan(PLAN)
    plan = replace(plan, site=replace(plan.site, workspace=str(tmp_path)))
    control = Control(tmp_path / "run" / "control" / "now")
    control.folder.mkdir(parents=True)

    def run(stage: Stage, context: Context) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(worker, "join", lambda device: RANKS)
    monkeypatch.setattr(worker, "STAGE_KINDS", defaultdict(lambda: StageKind(run=run, parallel=False)))
    assert worker.work(plan, [plan.stages[0].id], control, control.log_file) == 1
    failure = control.failure()
    assert failure is not None and failure.code == code
    assert "Traceback" not in "".join(capsys.readouterr())
    log = tmp_path / "run" / "logs" / "now.log"
    assert "Traceback" in log.read_text("utf-8") and (code != "R999" or str(log) in failure.hint)
