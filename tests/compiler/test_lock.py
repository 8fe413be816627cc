"""The lock: what it holds, and what it says when something has moved."""

import subprocess
from pathlib import Path

import pytest

from distilc.compiler.diagnostics.diagnostic import Places, Reporter
from distilc.compiler.plan.lock import check_locked, compare_locks, git_state, lock_text, make_lock, read_lock


def moved(old, new) -> list[str]:
    return compare_locks(make_lock(old.typed), make_lock(new.typed))


def test_a_lock_comes_back_as_it_was_written(compile_text, tmp_path):
    lock = make_lock(compile_text().typed)
    (tmp_path / "lock.yaml").write_text(lock_text(lock), "utf-8")
    assert read_lock((tmp_path / "lock.yaml").read_text("utf-8")) == lock


def test_what_a_lock_holds(compile_text):
    plan = compile_text().typed
    lock = make_lock(plan)
    assert lock["key"] == plan.key
    assert lock["stages"]["train"] == plan.train.key
    assert lock["spec"]["student"]["decoder_layers"] == 2
    assert lock["packages"]["torch"].startswith("2.")
    assert lock["inputs"]["data"]["train"][0]["name"] == "bulletins"


def test_nothing_moved(compile_text):
    assert moved(compile_text(), compile_text(per_node=4, workspace=Path("/elsewhere"))) == []


def test_a_setting_moved(compile_text):
    lines = moved(compile_text(), compile_text("student.decoder_layers=3"))
    assert lines == ["spec.student.decoder_layers was 2, is 3"]


def test_a_file_that_moved_is_the_same_and_one_that_changed_is_not(compile_text, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("same\n", "utf-8")
    one = compile_text("data.train={files: a.jsonl}")
    assert moved(one, compile_text("data.train={files: b.jsonl}")) == []
    (tmp_path / "a.jsonl").write_text("other\n", "utf-8")
    (line,) = moved(one, compile_text("data.train={files: a.jsonl}"))
    assert line.startswith("inputs.data.train[0].fingerprints[0] was ")


def test_a_package_moved(compile_text):
    old = make_lock(compile_text().typed)
    new = {**old, "packages": {**old["packages"], "torch": "1.0", "mlflow": None}}
    assert compare_locks(old, new) == [
        f"packages.torch was {old['packages']['torch']}, is 1.0",
        f"packages.mlflow was {old['packages']['mlflow']}, is absent",
    ]


def test_a_key_that_moved_alone_is_told(compile_text):
    old = make_lock(compile_text().typed)
    new = {**old, "stages": {**old["stages"], "train": "0" * 64}}
    (line,) = compare_locks(old, new)
    assert line.startswith("stages.train was ")


@pytest.mark.parametrize("text", [None, b"key: [", b"format: 99\n", b"- a\n", b"\xff", b""])
def test_no_lock_to_compare_with(compile_text, tmp_path, text):
    if text is not None:
        (tmp_path / "lock.yaml").write_bytes(text)
    reporter = Reporter(Places(), file="spec.yaml")
    check_locked([(compile_text().typed, tmp_path / "lock.yaml")], reporter)
    assert [(d.code, d.file) for d in reporter.diagnostics] == [("E517", "spec.yaml")]


def held(tmp_path, *lowered) -> list[str]:
    """What `--locked` says to these plans, each with the lock of its name."""
    reporter = Reporter(Places(), file="spec.yaml")
    check_locked([(one.typed, tmp_path / f"{one.plan['name']}.yaml") for one in lowered], reporter)
    assert {d.code for d in reporter.diagnostics} <= {"E518"}
    return sorted(d.message for d in reporter.diagnostics)


def locked(tmp_path, *lowered) -> None:
    for one in lowered:
        (tmp_path / f"{one.plan['name']}.yaml").write_text(lock_text(make_lock(one.typed)), "utf-8")


def test_everything_that_moved_is_reported(compile_text, tmp_path):
    locked(tmp_path, compile_text())
    assert held(tmp_path, compile_text()) == []
    assert held(tmp_path, compile_text("batch={examples: 8}", "precision=bf16")) == [
        "spec.batch.examples was 64, is 8",
        "spec.precision was auto, is bf16",
    ]


def test_what_moved_in_several_runs_is_told_once_with_their_names(compile_text, tmp_path):
    names = [f"run{i}" for i in range(9)]
    locked(tmp_path, *(compile_text(f"name={name}") for name in names))
    moved = [compile_text(f"name={name}", "batch.examples=8") for name in names]
    assert held(tmp_path, *moved) == ["spec.batch.examples was 64, is 8 (all 9 runs)"]
    some = [compile_text(f"name={name}", *(["seeds=[1]"] if i < 2 else [])) for i, name in enumerate(names)]
    assert held(tmp_path, *some) == ["spec.seeds[0] was 42, is 1 (run0, run1)"]
    most = [compile_text(f"name={name}", *(["seeds=[1]"] if i < 8 else [])) for i, name in enumerate(names)]
    assert held(tmp_path, *most) == ["spec.seeds[0] was 42, is 1 (run0, run1, run2, run3, run4, run5 and 2 more)"]


def test_a_commit_is_recorded_and_never_compared(compile_text, tmp_path):
    plan = compile_text().typed
    lock = make_lock(plan)
    (tmp_path / "lock.yaml").write_text(lock_text({**lock, "git": {"commit": "0" * 40, "dirty": True}}), "utf-8")
    reporter = Reporter(Places(), file="spec.yaml")
    check_locked([(plan, tmp_path / "lock.yaml")], reporter)
    assert not reporter.diagnostics
    assert compare_locks({**lock, "git": None}, lock) == []


def test_equal_locks_are_not_parsed(compile_text, tmp_path, monkeypatch):
    """A thousand of them would take minutes."""
    locked(tmp_path, compile_text())
    monkeypatch.setattr("distilc.compiler.plan.lock.read_lock", lambda text: pytest.fail("it was parsed"))
    assert held(tmp_path, compile_text()) == []


def test_git(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / "file").write_text("one", "utf-8")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    state = git_state(tmp_path)
    assert (len(state["commit"]), state["dirty"]) == (40, False)
    (tmp_path / "file").write_text("two", "utf-8")
    assert git_state(tmp_path)["dirty"] is True
