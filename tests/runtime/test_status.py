"""`status`: what it says of finished, running, failed, interrupted and untouched runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distilc.runtime.commands.status import main, workspace_status
from distilc.runtime.execution.control import make_control
from distilc.runtime.execution.store import Store
from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Plan
from distilc.runtime.report.summary import summarize
from distilc.runtime.tracking.record import Record

SAMPLE = Path(__file__).with_name("sample_plan.json")
RUN = "news-6-3-d72fad02"


@pytest.fixture
def plan() -> Plan:
    return load_plan(SAMPLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(SAMPLE.read_text())
    return folder


def publish(workspace: Path, plan: Plan, *stages: str) -> None:
    store = Store(workspace / "store")
    for id in stages:
        stage = plan.stage(id)
        if stage.kind == "evaluate":
            value = 20.0 if id == "evaluate-teacher" else 18.0
            (store.work(stage.key) / "metrics.json").write_text(json.dumps({"test": {"rouge2": {"value": value}}}))
        elif stage.kind in ("train", "benchmark"):
            name = "training.json" if stage.kind == "train" else "speed.json"
            (store.work(stage.key) / name).write_text("{}")
        store.work(stage.key)
        store.publish(stage.key, kind=stage.kind, stage=id, seconds=1.0, summary={})


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--workspace", str(tmp_path / "nothing")]) == 0
    assert capsys.readouterr().out.startswith("no runs yet; begin with: distilc run SPEC\n")
    assert not (tmp_path / "nothing").exists()


def test_finished(tmp_path: Path, folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, plan, *(stage.id for stage in plan.stages))
    (folder / "summary.json").write_text(json.dumps(summarize(plan, Store(tmp_path / "store"))))
    (run,) = workspace_status(tmp_path)
    assert (run.state, run.num_done, run.result) == ("finished", 8, "rouge2 18.00 (90.0 % of the teacher)")
    assert main(["--workspace", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert re.split(" {2,}", shown[1]) == [
        "news-6-3",
        "d72fad02",
        "finished",
        "8/8",
        "rouge2 18.00 (90.0 % of the teacher)",
        "just now",
    ]
    assert "8 artifacts" in shown[-1]
    assert len(shown) == 4


def test_not_started(tmp_path: Path, folder: Path, plan: Plan) -> None:
    publish(tmp_path, plan, "teacher", "data")  # by another run
    (run,) = workspace_status(tmp_path)
    assert (run.state, run.num_done) == ("not started", 2)


def test_a_compiled_plan_is_listed_until_it_has_run(tmp_path: Path, folder: Path) -> None:
    for name in (RUN, "another"):
        compiled = tmp_path / "plans" / name
        compiled.mkdir(parents=True)
        tree = json.loads(SAMPLE.read_text())
        if name == "another":
            tree |= {"name": "another", "key": "9" * 64}
        (compiled / "plan.json").write_text(json.dumps(tree))
    assert sorted((run.name, run.state) for run in workspace_status(tmp_path)) == [
        ("another", "not started"),
        ("news-6-3", "not started"),
    ]


def test_running(tmp_path: Path, folder: Path, plan: Plan) -> None:
    publish(tmp_path, plan, "teacher", "data")
    with Store(tmp_path / "store").lease(plan.stage("student").key):
        (run,) = workspace_status(tmp_path)
    assert run.state == "running"
    assert run.stages["student"] == "running"
    assert [id for id, state in run.stages.items() if state == "done"] == ["teacher", "data"]


def test_interrupted_and_failed(tmp_path: Path, folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    control = make_control(folder)
    publish(tmp_path, plan, "teacher", "data")
    assert workspace_status(tmp_path)[0].state == "interrupted"
    control.fail(Failure("R999", "stopped", exit_code=130))
    assert workspace_status(tmp_path)[0].state == "interrupted"
    control = make_control(folder)
    control.fail(Failure("R301", "the loss of step 3 is not finite", "lower the learning rate"))
    assert workspace_status(tmp_path)[0].state == "failed"
    main(["--workspace", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "news-6-3 d72fad02: failed: R301: the loss of step 3 is not finite\n" in shown
    assert "  done:    teacher, data\n  left:    student, train, evaluate-teacher," in shown


def test_ended_where_it_was_asked_to(
    tmp_path: Path, folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    make_control(folder)
    publish(tmp_path, plan, "teacher", "data")
    record = Record()
    record.save(folder / "tracking.json")
    assert workspace_status(tmp_path)[0].state == "interrupted"
    record.finished("FINISHED", {}, [])
    record.save(folder / "tracking.json")
    assert workspace_status(tmp_path)[0].state == "partial"
    main(["--workspace", str(tmp_path)])
    assert "news-6-3 d72fad02: partial: it ended where it was asked to (--until)" in capsys.readouterr().out


def test_a_run_of_another_version_is_said_to_be_unreadable(tmp_path: Path, folder: Path) -> None:
    (folder / "plan.json").write_text('{"format": 99}')
    (run,) = workspace_status(tmp_path)
    assert run.state == "unreadable"
    assert "has plan format 99" in run.note
