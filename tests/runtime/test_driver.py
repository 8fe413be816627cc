"""The driver on several plans: what they share is computed once, thrown away once, and not tried again in vain."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.commands import run as driver
from distilc.runtime.commands.run import Options, main
from distilc.runtime.commands.status import workspace_status
from distilc.runtime.commands.trained_as import RECORD, trained_as
from distilc.runtime.execution import launch, stop_signal
from distilc.runtime.execution.code_identity import code_identity
from distilc.runtime.execution.pending import pending_stages
from distilc.runtime.execution.store import MANIFEST, Store
from distilc.runtime.failure import Failure
from distilc.runtime.files.integrity import sha256
from distilc.runtime.messages.notices import FILE, Notice, Notices
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Stage

from .test_plan import make_keys

SAMPLE = json.loads(Path(__file__).with_name("sample_plan.json").read_text("utf-8"))
OWN = ("train", "evaluate-student", "benchmark-student")  # stages that each run has for itself
SHARED = [stage["id"] for stage in SAMPLE["stages"] if stage["id"] not in OWN]


RESULTS = {
    "evaluate": {"metrics.json": '{"test": {"rouge2": {"value": 20.0}}}'},
    "train": {"training.json": "{}", "model.safetensors": "weights"},
    "benchmark": {"speed.json": "{}"},
}


class Silent:
    """A tracker that tells nobody."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: None

    def finish(self, *arguments: Any) -> Any:
        return type("Tracked", (), {"run_id": None, "pending": 0, "message": "", "uri": ""})()


class Work:
    """In place of the workers: publishes stages at once, or fails at some of them."""

    def __init__(self) -> None:
        self.computed: list[tuple[str, str]] = []
        self.failing: dict[tuple[str, str], int] = {}  # (run, stage) -> exit code

    def __call__(self, run: driver.Run, stages: Sequence[Stage]) -> Failure | None:
        for stage in stages:
            if (code := self.failing.get((run.plan.name, stage.id))) is not None:
                return Failure("R302", f"out of memory in {stage.id}", "make it smaller", exit_code=code)
            for name, content in RESULTS.get(stage.kind, {}).items():
                (run.store.work(stage.key) / name).write_text(content, "utf-8")
            run.store.work(stage.key)
            run.store.publish(stage.key, kind=stage.kind, stage=stage.id, seconds=1.0, summary={})
            self.computed.append((run.plan.name, stage.id))
        return None

    def runs_of(self, id: str) -> list[str]:
        return [run for run, stage in self.computed if stage == id]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    monkeypatch.setattr(driver, "_execute", work)
    monkeypatch.setattr(driver, "Tracker", lambda *arguments: Silent())
    return work


@pytest.fixture
def plans(tmp_path: Path) -> list[Path]:
    """24 plans of one sweep, each with its own student."""
    folders = []
    for i in range(24):
        tree = json.loads(json.dumps(SAMPLE))
        tree["name"] = f"run{i:02d}"
        tree["site"]["workspace"] = str(tmp_path / "workspace")
        for stage in tree["stages"]:
            if stage["id"] == "train":
                stage["settings"]["seed"] = i
        make_keys(tree)
        folder = tmp_path / "plans" / tree["name"]
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps(tree), "utf-8")
        folders.append(folder)
    return folders


UNTIL = Options(until="benchmark-student")


def test_shared_stages_are_computed_once(
    plans: list[Path], work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plans, UNTIL) == 0
    assert all(work.runs_of(id) in (["run00"], []) for id in SHARED) and work.runs_of("data") == ["run00"]
    assert all(len(work.runs_of(id)) == 24 for id in OWN)
    assert capsys.readouterr().out.endswith("24 runs: 24 done\n")
    assert sorted(run.name for run in workspace_status(tmp_path / "workspace")) == [f"run{i:02d}" for i in range(24)]


def test_what_comes_after_the_last_stage_asked_for_is_neither_there_nor_to_run(
    plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plans[:1], Options(until="teacher")) == 0
    ids = [stage["id"] for stage in json.loads((plans[0] / "plan.json").read_text("utf-8"))["stages"]]
    first = ids.index("teacher") + 1
    told = f"stages: 0 in the store, {first} to run, {len(ids) - first} after the last one asked for"
    assert told in capsys.readouterr().out


def test_the_teacher_is_evaluated_before_a_student_is_trained(plans: list[Path], tmp_path: Path) -> None:
    """And after all that it takes, which is not moved."""
    plan = load_plan(plans[0])
    ids = [stage.id for stage in plan.stages]
    found = [stage.id for stage in pending_stages(plan, Store(tmp_path / "nothing"), None)]
    assert sorted(found) == sorted(ids) and ids.index("evaluate-teacher") > ids.index("train")
    assert found.index("evaluate-teacher") < found.index("student") < found.index("train")
    for number, id in enumerate(found):
        assert set(plan.stage(id).reads.values()) <= set(found[:number]), id
    assert [id for id in found if id != "evaluate-teacher"] == [id for id in ids if id != "evaluate-teacher"]
    assert "evaluate-teacher" not in [s.id for s in pending_stages(plan, Store(tmp_path / "nothing"), "train")]


def test_a_teacher_to_learn_nothing_from_is_told_in_every_run(
    plans: list[Path], work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where its scores are in the store, and another student is trained."""
    assert main(plans[:1], Options()) == 0
    store, stage = Store(tmp_path / "workspace" / "store"), load_plan(plans[0]).stage("evaluate-teacher")
    folder = store.find(stage.key)
    assert folder is not None
    notices = Notices(folder / FILE)
    notices.add(Notice("R365", "the teacher is below", "stop here", "teacher"))
    notices.add(Notice("R355", "texts end at the limit", "", "evaluation"))
    manifest = store.manifest(stage.key)  # as if the stage had given them
    manifest["files"][FILE] = {"sha256": sha256(folder / FILE), "bytes": (folder / FILE).stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    capsys.readouterr()
    assert main(plans[1:2], Options()) == 0
    told = capsys.readouterr().out
    assert told.count("R365: warning: the teacher is below\n  hint: stop here\n") == 1 and "R355" not in told
    assert told.index("R365") < told.index("\nwarning: the teacher is below\n")


def test_redo_throws_a_shared_artifact_away_once(plans: list[Path], work: Work) -> None:
    assert main(plans[:5], UNTIL) == 0
    work.computed.clear()
    assert main(plans[:5], Options(until="benchmark-student", redo=["data"])) == 0
    assert work.runs_of("data") == ["run00"]
    assert len(work.runs_of("train")) == 5


def test_a_shared_stage_that_failed_is_not_tried_again(
    plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    work.failing[("run00", "data")] = 1
    assert main(plans[:3], UNTIL) == 1
    assert work.runs_of("data") == []
    output = capsys.readouterr()
    assert output.err.count("R302: out of memory in data") == 1
    assert "R406: run01 needs the stage data, which failed for run00" in output.err
    assert output.out.endswith("3 runs: 0 done, 3 failed: run00, run01, run02\n")


def test_the_failure_of_one_run_leaves_the_others_alone(
    plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    """What comes after the failed stage was not tried: another run may need it and has to try."""
    work.failing[("run00", "train")] = 1
    assert main(plans[:3], UNTIL) == 1
    assert work.runs_of("train") == work.runs_of("evaluate-student") == ["run01", "run02"]
    assert work.runs_of("evaluate-teacher") == ["run00"]  # it comes before any student
    assert work.runs_of("benchmark-teacher") == ["run01"]
    assert capsys.readouterr().out.endswith("3 runs: 2 done, 1 failed: run00\n")


@pytest.mark.parametrize("code", [75, 130])
def test_an_interruption_ends_all(plans: list[Path], work: Work, code: int) -> None:
    work.failing[("run01", "train")] = code
    assert main(plans[:3], UNTIL) == code
    assert work.runs_of("train") == ["run00"]


def test_a_damaged_plan_does_not_stop_the_others(
    plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    (plans[1] / "plan.json").write_text("{", "utf-8")
    assert main(plans[:3], UNTIL) == 1
    assert work.runs_of("train") == ["run00", "run02"]
    output = capsys.readouterr()
    assert "R102" in output.err and output.out.endswith("3 runs: 2 done, 1 failed: run01\n")


def test_no_folders_are_made_for_a_workspace_that_is_nowhere(
    plans: list[Path], work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that was damaged on its way: a plan's own workspace lies where it was compiled."""
    tree = json.loads((plans[0] / "plan.json").read_text("utf-8"))
    tree["site"]["workspace"] = str(tmp_path / "nullworkspace" / "here")
    (plans[0] / "plan.json").write_text(json.dumps(tree), "utf-8")
    assert main(plans[:1], UNTIL) == 1
    assert "R404" in capsys.readouterr().err and not (tmp_path / "nullworkspace").exists()
    assert main(plans[:1], replace(UNTIL, workspace=tmp_path / "asked" / "for")) == 0
    assert (tmp_path / "asked" / "for" / "runs").is_dir()


@pytest.mark.parametrize("options", [Options(until="tarin"), Options(redo=["tarin"])])
def test_a_stage_that_is_nowhere_starts_nothing(
    options: Options, plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plans[:3], options) == 1
    assert not work.computed and capsys.readouterr().err.count("R105") == 1


def test_one_run_is_not_counted(plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(plans[:1], UNTIL) == 0
    assert " done\n" not in capsys.readouterr().out


def test_redo_of_what_lies_in_a_shared_store_is_told(
    plans: list[Path], work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plans[:1], UNTIL) == 0
    work.computed.clear()
    tree = json.loads((plans[0] / "plan.json").read_text("utf-8"))
    tree["site"] |= {"workspace": str(tmp_path / "another"), "shared_stores": [str(tmp_path / "workspace" / "store")]}
    (plans[0] / "plan.json").write_text(json.dumps(tree), "utf-8")
    assert main(plans[:1], UNTIL) == 0 and not work.computed
    assert main(plans[:1], Options(until="benchmark-student", redo=["train"])) == 1
    assert not work.computed and "R407: the artifact of train lies in a shared store" in capsys.readouterr().err


# --- what a run hands over ------------------------------------------------------------------------------

WHOLE = Options()


@pytest.fixture
def finished(plans: list[Path], work: Work, tmp_path: Path) -> Path:
    """The run folder of the first plan, finished. Nothing of it counts as computed."""
    assert main(plans[:1], WHOLE) == 0
    work.computed.clear()
    (run_folder,) = (tmp_path / "workspace" / "runs").iterdir()
    return run_folder


def artifact(run_folder: Path, id: str) -> Path:
    (stage,) = [
        stage for stage in json.loads((run_folder / "plan.json").read_text("utf-8"))["stages"] if stage["id"] == id
    ]
    return run_folder.parents[1] / "store" / str(stage["key"])


def test_a_student_that_is_gone_is_trained_again(
    finished: Path, plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though all that was computed of it is there."""
    shutil.rmtree(artifact(finished, "train"))
    (status,) = [run for run in workspace_status(finished.parents[1]) if run.name == "run00"]
    assert status.state == "partial" and "train: gone from the store" in status.note and "--until" not in status.note
    assert main(plans[:1], WHOLE) == 0
    assert [stage for _, stage in work.computed] == ["train"]
    assert (finished / "student" / "model.safetensors").read_text("utf-8") == "weights"
    known = trained_as(finished / "student")
    assert known is not None and (known.max_source_tokens, known.found_in) == (64, str(finished / "student" / RECORD))
    assert workspace_status(finished.parents[1])[0].state == "finished"
    assert "1 to run" in capsys.readouterr().out


def test_what_nothing_wants_any_more_may_be_gone(finished: Path, plans: list[Path], work: Work) -> None:
    for id in ("data", "student", "teacher"):
        shutil.rmtree(artifact(finished, id))
    assert main(plans[:1], WHOLE) == 0 and not work.computed
    assert workspace_status(finished.parents[1])[0].state == "finished"


@pytest.mark.parametrize("id", ["train", "evaluate-student"])
def test_nothing_of_a_finished_run_goes_before_its_replacement_is_there(
    id: str, finished: Path, plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stages that are computed again fail: all is as it was. Then they do not, without --redo."""
    before = {name: (finished / name).read_bytes() for name in ("summary.json", "table.md", "student/model.safetensors")}
    work.failing[("run00", id)] = 1
    assert main(plans[:1], Options(redo=[id])) == 1
    assert all((finished / name).read_bytes() == content for name, content in before.items())
    assert workspace_status(finished.parents[1])[0].state == "partial"
    work.failing.clear()
    assert main(plans[:1], WHOLE) == 0
    assert id in [stage for _, stage in work.computed] and artifact(finished, id).is_dir()
    assert (finished / "student" / "model.safetensors").read_text("utf-8") == "weights"


@pytest.mark.parametrize(
    ("id", "name"), [("train", "model.safetensors"), ("evaluate-teacher", "metrics.json"), ("data", "manifest.json")]
)
def test_a_result_that_was_changed_is_not_told(
    id: str, name: str, finished: Path, plans: list[Path], work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    file = artifact(finished, id) / name
    kept = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file() and path.name in ("summary.json",)}
    file.write_bytes(file.read_bytes().replace(b"20.0", b"29.0").replace(b"weights", b"Weights").replace(b"{", b"["))
    assert main(plans[:1], WHOLE) == 1
    told = capsys.readouterr()
    assert "R401" in told.err and name in told.err and "rm -r" in told.err and "rouge2" not in told.out
    assert {path: path.read_bytes() for path in kept} == kept and not work.computed
    assert main(plans[:1], Options(redo=[id])) == 0
    assert id in [stage for _, stage in work.computed]


def test_workers_are_told_which_code_the_driver_has(
    plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = "from pathlib import Path; from distilc.runtime.execution.control import Control; print(Control(Path(sys.argv[1])).code())"
    assert launched(plans[:1], f"{AT_WORK}{look}", monkeypatch, []) == 1
    (log,) = plans[0].parents[1].rglob("*.log")
    assert log.read_text("utf-8").split() == ["at", "work", code_identity().code]


FILL = """
with open(sys.argv[1] + "/rest", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        os.kill(os.getpid(), 9)
"""


def test_killed_on_a_full_disk_is_no_reason_to_try_again(
    plans: list[Path],
    tmp_path: Path,
    small_disk: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever cannot write cannot tell either. With room again, the same command goes on."""
    small_disk(tmp_path / "workspace")
    assert launched(plans[:1], f"{AT_WORK}{FILL}", monkeypatch, []) == 1
    assert f"R402: no space left on the disk of {tmp_path}/workspace" in capsys.readouterr().err
    assert main(plans[:1], WHOLE) == 1  # the disk is still full
    told = capsys.readouterr()
    assert "R402" in told.err and "Traceback" not in told.err + told.out


def test_the_plan_of_a_run_is_replaced_whole(
    plans: list[Path], work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of another driver of the same run may be reading it."""
    there = Options(until="benchmark-student", workspace=tmp_path / "there")
    seen: list[str] = []
    replace = Path.replace

    def seeing(self: Path, target: Path) -> Path:
        if Path(target).name == "plan.json":
            seen.append(json.loads(self.read_text("utf-8"))["site"]["workspace"])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seeing)
    for _ in range(2):
        assert main(plans[:1], there) == 0
    assert seen == [str(tmp_path / "there")] * 2
    (plan,) = (tmp_path / "there" / "runs").glob("*/plan.json")
    inode = plan.stat().st_ino
    assert main(plans[:1], there) == 0
    assert plan.stat().st_ino != inode and not list(plan.parent.glob(".*"))


# --- stop requests -----------------------------------------------------------------------------------


def launched(plans: list[Path], workers: str, monkeypatch: pytest.MonkeyPatch, signals: Sequence[int]) -> int:
    """The exit code of a run whose workers are this Python code, at signals that come when it says that it works."""
    command = [sys.executable, "-c", f"import os, sys, time\n{workers}"]
    monkeypatch.setattr(launch, "launch_command", lambda plan, folder, stages, control, *_: [*command, str(control.folder)])
    monkeypatch.setattr(driver, "Tracker", lambda *arguments: Silent())

    def send() -> None:
        until(lambda: "at work" in "".join(log.read_text("utf-8") for log in plans[0].parents[1].rglob("*.log")))
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    def until(true: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 60
        while not true() and time.monotonic() < give_up:
            time.sleep(0.02)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return main(plans, UNTIL)
    finally:
        sender.join()


AT_WORK = "print('at work', flush=True)\n"
HANGING = f"{AT_WORK}time.sleep(60)"  # in something that does not ask whether it is to stop


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_killed_by_the_driver_is_interrupted(
    number: int, code: int, plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(plans[:2], HANGING, monkeypatch, [number, number]) == code
    told = capsys.readouterr().err
    assert "R300: stopped in stage teacher" in told and "R405" not in told and "something outside" not in told


def test_the_end_of_patience_is_an_interruption(
    plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stop_signal, "KILL_AFTER_SECONDS", 0.3)
    assert launched(plans[:1], HANGING, monkeypatch, [signal.SIGTERM]) == 75
    assert "R300: stopped in stage teacher" in capsys.readouterr().err


def test_killed_from_outside_is_told_as_such(
    plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(plans[:1], f"{AT_WORK}os.kill(os.getpid(), 9)", monkeypatch, []) == 75
    assert "R405: the processes of stage teacher ended without an error message (exit code -9;" in capsys.readouterr().err


def test_workers_that_came_up_and_say_nothing_were_killed(
    plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launcher that is told to end, by somebody else than its driver, exits with 1 and leaves no word."""
    come_up = "from pathlib import Path; from distilc.runtime.execution.control import Control; Control(Path(sys.argv[1])).begin(0)"
    assert launched(plans[:1], f"{AT_WORK}{come_up}\nsys.exit(1)", monkeypatch, []) == 75
    assert "R405: " in capsys.readouterr().err


@pytest.mark.parametrize("end", ["sys.exit(1)", "", "import no_such_module"])
def test_workers_that_do_not_come_up_are_told_with_the_reason(
    end: str, plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trying again does not mend it: no 75, which lets a scheduler do so for ever."""
    assert launched(plans[:1], f"{AT_WORK}print('[2026-12-01 02:00:00] [INFO] ends')\n{end}", monkeypatch, []) == 1
    told = capsys.readouterr().err
    reason = "ModuleNotFoundError: No module named 'no_such_module'" if "import" in end else "at work"
    assert f"R420: the processes of stage teacher did not come up (exit code {int(bool(end))}: {reason}; log: " in told


def test_what_the_workers_told_before_they_were_killed_is_told(
    plans: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = (
        "from pathlib import Path; from distilc.runtime.execution.control import Control; "
        "from distilc.runtime.failure import Failure; Control(Path(sys.argv[1])).fail(Failure('R302', 'no memory'))"
    )
    assert launched(plans[:1], f"{told}\n{HANGING}", monkeypatch, [signal.SIGINT] * 2) == 1
    assert "R302: no memory" in capsys.readouterr().err


# --- in this very process ----------------------------------------------------------------------------


def in_process(plan: Path, work: str, **environment: str) -> subprocess.Popen[str]:
    """A run `--in-process` whose work is this Python code."""
    code = f"""
        import ctypes, os, sys
        from pathlib import Path
        from types import SimpleNamespace
        from distilc.runtime.commands import run as driver
        from distilc.runtime.execution import processes, worker

        def work(plan, stages, control, log):
{textwrap.indent(work, " " * 12)}

        driver.Tracker = lambda *arguments: SimpleNamespace(
            start=lambda: None, follow=lambda *_: None, stage_failed=lambda *_: None,
            finish=lambda *_: SimpleNamespace(run_id=None, pending=0, message="", uri=""))
        driver.LAST_SECONDS = 0.5
        worker.work = work
        sys.exit(driver.main([Path({str(plan)!r})], driver.Options(until="teacher", in_process=True)))
    """
    command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    outside = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**outside, **environment})


@pytest.mark.slow
def test_what_a_cluster_says_of_this_process_is_not_asked_in_process(plans: list[Path]) -> None:
    """RANK and WORLD_SIZE of a job of several processes: the others would be waited for, for ever."""
    work = "print('ranks', processes.join('cpu').world)\nreturn 1"
    cluster = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "23999"}
    process = in_process(plans[0], work, **cluster)
    try:
        told = process.communicate(timeout=120)[0]
        assert "ranks 1\n" in told and "WARNING" not in told  # DeepSpeed's, which looked for a device
    finally:
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_signals_reach_a_process_that_is_in_a_library(number: int, code: int, plans: list[Path]) -> None:
    deadlock = "mutex = ctypes.create_string_buffer(64)\nlock = ctypes.CDLL(None).pthread_mutex_lock\n"
    process = in_process(plans[0], f"{deadlock}print('at work')\nlock(mutex)\nlock(mutex)")
    assert process.stdout is not None
    try:
        assert any(line == "at work\n" for line in process.stdout)
        process.send_signal(number)
        assert process.stdout.readline().startswith("stopping at the next step")
        assert len(list(plans[0].parents[1].rglob("control/*/stop"))) == 1
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        process.kill()


def test_a_stop_request_at_the_end_of_a_run_does_not_begin_the_next(
    plans: list[Path], work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(run: driver.Run, stages: Sequence[Stage]) -> None:
        work(run, stages)
        run.stopped = 130

    monkeypatch.setattr(driver, "_execute", stopped)
    assert main(plans[:3], UNTIL) == 130
    assert work.runs_of("train") == ["run00"] and "R300: stopped before run01" in capsys.readouterr().err
    assert main(plans[2:3], UNTIL) == 0  # all of it is done: there is nothing to stop


def test_a_workspace_that_is_deleted_under_a_run_is_told(
    plans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def delete(*_: Any) -> driver.Ended:
        shutil.rmtree(tmp_path / "workspace")
        return driver.Ended("exit code 1", lost=True)

    monkeypatch.setattr(driver, "_launch", delete)
    monkeypatch.setattr(driver, "Tracker", lambda *arguments: Silent())
    assert main(plans[:1], Options()) == 1
    told = capsys.readouterr().err
    assert told.count("R408: the folder of the run was removed while it ran") == 1 and "Traceback" not in told


def test_an_error_of_the_system_because_of_it_is_told_as_well(
    plans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def delete(run: driver.Run, _: Any) -> None:
        shutil.rmtree(tmp_path / "workspace")
        (run.folder / "anything").write_text("")

    monkeypatch.setattr(driver, "_execute", delete)
    monkeypatch.setattr(driver, "Tracker", lambda *arguments: Silent())
    assert main(plans[:1], Options()) == 1
    assert "R408" in capsys.readouterr().err


def test_what_lies_beside_a_plan_is_not_taken_along(plans: list[Path], work: Work, tmp_path: Path) -> None:
    """A link to a file of the user's would be sent to the server that the plan names."""
    from distilc.runtime.tracking.content import plan_files

    (tmp_path / "private").write_text("secret")
    folder = plans[0]
    for name in ("lock.yaml", "launch.sh", "spec.yaml", "deepspeed.x.json", "tracking.json", "metrics.jsonl"):
        (folder / name).symlink_to(tmp_path / "private")
    (folder / "deepspeed.train.json").write_text("{}")
    (folder / "summary.json").write_text("{}")
    assert main([folder], UNTIL) == 0
    (run_folder,) = (tmp_path / "workspace" / "runs").iterdir()
    names = {file.name for file in run_folder.iterdir() if file.is_file()}
    assert names == {"plan.json", "deepspeed.train.json"}
    assert [file.name for file in plan_files(run_folder)] == ["deepspeed.train.json", "plan.json"]


def test_the_plan_that_is_run_is_the_one_that_was_named(plans: list[Path], work: Work, tmp_path: Path) -> None:
    """Whatever it is called, and whichever other one lies beside it."""
    other = plans[0] / "other.json"
    other.write_text((plans[1] / "plan.json").read_text("utf-8"), "utf-8")
    assert main([other], UNTIL) == 0
    (run_folder,) = (tmp_path / "workspace" / "runs").iterdir()
    assert json.loads((run_folder / "plan.json").read_text("utf-8"))["name"] == "run01"
