"""The store: atomic publication, leases, take-over of a dead owner, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.execution import heartbeat
from distilc.runtime.execution import store as store_module
from distilc.runtime.execution.store import Store, discard, open_store
from distilc.runtime.failure import Failure
from distilc.runtime.files import integrity
from distilc.runtime.plan.load import load_plan

KEY = "a" * 64


def publish(store: Store, text: str = "hello") -> Path:
    (store.work(KEY) / "file.txt").write_text(text, "utf-8")
    return store.publish(KEY, kind="data", stage="data", seconds=1.5, summary={"line": "done"})


def hold_lease(root: Path) -> subprocess.Popen[str]:
    code = f"""
        import time
        from pathlib import Path
        from distilc.runtime.execution.store import Store
        with Store(Path({str(root)!r})).lease({KEY!r}) as mine:
            print(mine, flush=True)
            time.sleep(60)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)


def test_unpublished_work_is_not_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.work(KEY) / "half.txt").write_text("ha", "utf-8")
    assert not store.has(KEY)
    with pytest.raises(Failure, match="is not in the store"):
        store.folder(KEY)


def test_published_artifact_has_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store)
    manifest = store.manifest(KEY)
    assert folder == store.folder(KEY)
    assert (
        manifest["kind"] == "data" and manifest["seconds"] == 1.5 and manifest["summary"] == {"line": "done"}
    )
    assert manifest["files"]["file.txt"] == {
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "bytes": 5,
    }
    assert not (tmp_path / ".work" / KEY).exists()


def test_a_second_publication_of_a_key_leaves_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "first")
    folder = publish(store, "second")
    assert (folder / "file.txt").read_text("utf-8") == "first"


def test_a_cut_file_is_a_diagnosis(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (publish(store) / "file.txt").write_text("hell", "utf-8")
    with pytest.raises(Failure, match=r"damaged: file\.txt was cut short: it has 4 bytes, and had 5") as caught:
        store.folder(KEY)
    assert caught.value.code == "R401"


def test_what_is_damaged_is_told_by_its_name_and_its_stage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = publish(store) / "file.txt"
    file.write_text("hello, world", "utf-8")
    with pytest.raises(Failure, match=r"damaged: file\.txt was changed: it has 12 bytes, and had 5") as caught:
        store.folder(KEY, stage="teacher-train")
    assert caught.value.hint.endswith("or have it computed again: --redo teacher-train")
    file.unlink()
    with pytest.raises(Failure, match=r"damaged: file\.txt is missing"):
        store.folder(KEY)
    (tmp_path / KEY / "manifest.json").write_text("{", "utf-8")
    with pytest.raises(Failure, match=r"manifest\.json is not JSON") as caught:
        store.folder(KEY, stage="train")
    assert caught.value.hint.endswith("--redo train")


def test_a_shared_store_is_looked_into(tmp_path: Path) -> None:
    publish(Store(tmp_path / "shared"))
    store = Store(tmp_path / "own", [tmp_path / "shared"])
    assert store.folder(KEY) == tmp_path / "shared" / KEY


def test_a_lease_excludes_and_a_dead_owner_is_taken_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = hold_lease(tmp_path)
    assert other.stdout is not None and other.stdout.readline().strip() == "True"
    with store.lease(KEY) as mine:
        assert not mine
    owner = store.owner(KEY)
    assert owner is not None and owner.pid == other.pid
    with pytest.raises(Failure, match="another process is at work"):
        store.discard(KEY)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert store.owner(KEY) is None
    with store.lease(KEY) as mine:
        assert mine
        assert store.owner(KEY) is not None
    assert store.owner(KEY) is None


ELSEWHERE = {"host": "another-machine", "boot": "x", "pid": 1, "started": "1"}


def lock_of(root: Path, text: str) -> Path:
    """The lock of KEY with this text in it."""
    lock = root / ".locks" / f"{KEY}.json"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(text, "utf-8")
    return lock


@pytest.mark.parametrize(("ahead", "alive"), [(0.0, True), (-30.0, True), (30.0, True), (-3600.0, False), (3600.0, False)])
def test_one_look_at_an_owner_elsewhere(ahead: float, alive: bool, tmp_path: Path) -> None:
    """A heartbeat from the future, of a clock that was set back since, is no life for ever."""
    lock_of(tmp_path, json.dumps({**ELSEWHERE, "heartbeat": time.time() + ahead}))
    assert (Store(tmp_path).owner(KEY) is not None) == alive


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_an_owner_elsewhere_lives_as_long_as_its_record_changes(
    ahead: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its clock shows: by the observer's own."""
    now = [100.0]
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))
    store = Store(tmp_path)

    def ask(after_seconds: float) -> bool:
        now[0] += after_seconds
        with store.lease(KEY) as mine:
            return mine

    for beat in range(5):
        lock_of(tmp_path, json.dumps({**ELSEWHERE, "beat": beat, "heartbeat": time.time() + ahead}))
        assert not ask(50.0)
    assert not ask(50.0)
    assert ask(11.0)  # 61 s without a change


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "nul", "null", "\0" * 40, '{"host": "a"}', '{"host": 1, "boot": "x", "pid": 1, "started": "1"}',
     json.dumps({**ELSEWHERE, "pid": "1"}), json.dumps({**ELSEWHERE, "heartbeat": "now"}),
     json.dumps({**ELSEWHERE, "heartbeat": int("9" * 400)}), "[" * 100_000],
)  # fmt: skip
def test_a_damaged_lock_is_nobodys(text: str, tmp_path: Path) -> None:
    lock_of(tmp_path, text)
    store = Store(tmp_path)
    assert store.owner(KEY) is None
    store.discard(KEY)
    with store.lease(KEY) as mine:
        assert mine
    assert store.owner(KEY) is None


def test_work_of_an_owner_elsewhere_is_not_thrown_away_for_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_of(tmp_path, json.dumps({**ELSEWHERE, "beat": 1, "heartbeat": 1.0}))

    def beat(_: float) -> None:
        lock_of(tmp_path, json.dumps({**ELSEWHERE, "beat": 2, "heartbeat": 1.0}))

    monkeypatch.setattr(store_module, "time", SimpleNamespace(time=time.time, sleep=beat))
    with pytest.raises(Failure, match="another process is at work"):
        Store(tmp_path).discard(KEY)
    monkeypatch.setattr(store_module, "time", SimpleNamespace(time=time.time, sleep=lambda _: None))
    Store(tmp_path).discard(KEY)


def test_the_same_pid_in_another_container_is_another_process(tmp_path: Path) -> None:
    """Containers of one host share its boot id, and often the name of the machine: not the pids."""
    boot = heartbeat.this_process().boot.split()[0]
    life = {**asdict(heartbeat.this_process()), "boot": f"{boot} pid:[1]", "heartbeat": time.time()}
    lock_of(tmp_path, json.dumps({**life, "pid": 999_999_999}))
    assert Store(tmp_path).owner(KEY) is not None


def test_an_owner_that_was_replaced_ends(tmp_path: Path) -> None:
    """One that was stopped for longer than others wait for it must not go on writing into the folder."""
    other = hold_lease(tmp_path)
    assert other.stdout is not None and other.stdout.readline().strip() == "True"
    lock_of(tmp_path, json.dumps({**ELSEWHERE, "heartbeat": time.time()}))
    assert other.wait(30) == 75
    assert Store(tmp_path).owner(KEY) is not None


def test_a_manifest_records_what_the_artifact_was_made_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.work(KEY)
    settings = {"task": "summarization", "limit": None, "betas": (0.9, 0.999)}
    store.publish(
        KEY, kind="data", stage="data", seconds=1.0, summary={}, settings=settings, needs={"tokenizer": "b" * 64}
    )
    manifest = store.manifest(KEY)
    assert manifest["settings"] == {"task": "summarization", "limit": None, "betas": [0.9, 0.999]}
    assert manifest["needs"] == {"tokenizer": "b" * 64}


def test_a_manifest_without_that_record_is_read_as_well(tmp_path: Path) -> None:
    """Earlier versions wrote it so."""
    store = Store(tmp_path)
    folder = publish(store)
    assert {"settings", "needs"}.isdisjoint(store.manifest(KEY))
    assert store.folder(KEY) == folder and store.has(KEY)


def test_an_artifact_in_a_shared_store_is_not_thrown_away(tmp_path: Path) -> None:
    """It would be found there again: the user is told, and nothing of the rest is thrown away."""
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    shared = tmp_path / "shared"
    site = replace(plan.site, workspace=str(tmp_path / "own"), shared_stores=(str(tmp_path / "other"), str(shared)))
    first, second = plan.stages[:2]
    for root, stage in ((tmp_path / "own" / "store", first), (shared, second)):
        Store(root).work(stage.key)
        Store(root).publish(stage.key, kind=stage.kind, stage=stage.id, seconds=1.0, summary={})
    with pytest.raises(Failure) as caught:
        discard(site, [first, second])
    assert caught.value.code == "R407"
    assert second.id in caught.value.message and str(shared / second.key) in caught.value.message
    assert f"rm -r {shared / second.key}" in caught.value.hint
    assert open_store(site).has(first.key) and open_store(site).has(second.key)
    # Its own store is no shared one, though the site names it as such.
    discard(replace(site, shared_stores=(str(tmp_path / "own" / "store"),)), [first])
    assert not open_store(site).has(first.key)


@pytest.mark.parametrize("place", ["own/store", "scratch"])
def test_signals_are_thrown_away_wherever_they_lie(tmp_path: Path, place: str) -> None:
    """In the scratch folder, or in the workspace, from a time when the site had none."""
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    site = replace(plan.site, workspace=str(tmp_path / "own"), scratch=str(tmp_path / "scratch"))
    stage = replace(plan.stages[0], kind="signals")
    Store(tmp_path / place).work(stage.key)
    Store(tmp_path / place).publish(stage.key, kind="signals", stage=stage.id, seconds=1.0, summary={})
    assert open_store(site, "signals").has(stage.key)
    discard(site, [stage])
    assert not open_store(site, "signals").has(stage.key) and not open_store(site).has(stage.key)


@pytest.mark.parametrize(("kind", "place"), [("signals", "scratch"), ("data", "own/store")])
def test_signals_are_written_into_the_scratch_folder_and_found_from_everywhere(
    tmp_path: Path, kind: str, place: str
) -> None:
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    site = replace(plan.site, workspace=str(tmp_path / "own"), scratch=str(tmp_path / "scratch"))
    assert publish(open_store(site, kind)) == tmp_path / place / KEY
    assert open_store(site).has(KEY) and open_store(site, "signals").has(KEY)


# --- what is not what was written ---------------------------------------------------------------------


def flip(file: Path) -> None:
    """Change a bit of the last byte in place."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("small", [True, False])
def test_a_flipped_byte_is_found(small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small:
        monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    found = Store(tmp_path)
    folder = publish(found)
    assert found.folder(KEY) == folder
    flip(folder / "file.txt")
    with pytest.raises(Failure, match=r"is damaged: file\.txt is not what was written") as caught:
        found.folder(KEY)
    assert caught.value.code == "R401" and f"rm -r {folder}" in caught.value.hint and "--redo" in caught.value.hint


@pytest.mark.parametrize("large_files", [True, False])
def test_an_added_file_is_found(large_files: bool, tmp_path: Path) -> None:
    """A generation_config.json beside a model changes what it writes, and no hash."""
    found = Store(tmp_path)
    (found.work(KEY) / "part").mkdir()
    (found.work(KEY) / "part" / "b.txt").write_text("b", "utf-8")
    folder = publish(found)
    (folder / ".nfs0001").touch()  # of a file system, not of ours
    (folder / "empty").mkdir()
    assert found.folder(KEY, large_files=large_files) == folder
    (folder / "part" / "a.json").write_text("{}", "utf-8")
    with pytest.raises(Failure, match=r"part/a\.json was added after it was published") as caught:
        found.folder(KEY, large_files=large_files)
    assert caught.value.code == "R401" and f"rm {folder / 'part' / 'a.json'}" in caught.value.hint


def test_a_large_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its publication, and again when inode, size or time are others."""
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    hashed = list[Path]()
    sha256 = integrity.sha256
    monkeypatch.setattr(integrity, "sha256", lambda path: (hashed.append(path), sha256(path))[1])
    found = Store(tmp_path)
    folder = publish(found)
    assert len(hashed) == 1
    for _ in range(3):
        assert Store(tmp_path).folder(KEY) == folder
    assert len(hashed) == 1
    os.utime(folder / "file.txt")
    found.folder(KEY)
    found.folder(KEY)
    assert len(hashed) == 2
    (tmp_path / ".hashes" / f"{KEY}.json").write_text("{}", "utf-8")
    found.folder(KEY)
    assert len(hashed) == 3


def test_hashes_of_a_shared_store_are_remembered_in_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(Path(__file__).with_name("sample_plan.json"))
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    folder = publish(Store(tmp_path / "shared", hashes=tmp_path / "theirs"))
    before = sorted((tmp_path / "shared").rglob("*"))
    site = replace(plan.site, workspace=str(tmp_path / "own"), shared_stores=(str(tmp_path / "shared"),))
    for kind in ("", "signals"):
        assert open_store(site, kind).folder(KEY) == folder
    assert sorted((tmp_path / "shared").rglob("*")) == before
    assert [file.name for file in (tmp_path / "own" / "store" / ".hashes").iterdir()] == [f"{KEY}.json"]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", "\0" * 40, '{"key": "KEY"}', '{"key": "another", "files": {}}']
)
def test_a_damaged_manifest_is_a_diagnosis_and_can_be_made_anew(tmp_path: Path, content: str) -> None:
    found = Store(tmp_path)
    folder = publish(found)
    (folder / "manifest.json").write_text(content.replace("KEY", KEY), "utf-8")
    for ask in (found.folder, found.manifest):
        with pytest.raises(Failure, match=r"is damaged: manifest\.json") as caught:
            ask(KEY)
        assert caught.value.code == "R401" and "--redo" in caught.value.hint
    found.discard(KEY)
    assert not found.has(KEY)
    publish(found, "anew")
    assert (found.folder(KEY) / "file.txt").read_text("utf-8") == "anew"


# --- publication ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.parametrize("at", ["dump", "sync_tree", "sync", "_remove_work"])
def test_a_publication_that_was_killed_can_be_repeated(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anywhere. What the work would be resumed from is there until the artifact is, and nothing is left behind."""
    found = Store(tmp_path)
    found.make_scratch(KEY)
    (found.scratch(KEY) / "checkpoint").write_text("step 7", "utf-8")

    def killed(*arguments: Any, **named: Any) -> None:
        if at == "dump":
            arguments[1].write('{"half": ')
        raise Killed

    owner = {"dump": store_module.json, "_remove_work": found}.get(at, store_module)
    with monkeypatch.context() as patch:
        patch.setattr(owner, at, killed)
        with pytest.raises(Killed):
            publish(found)
    assert (found.scratch(KEY) / "checkpoint").read_text("utf-8") == "step 7"
    assert found.has(KEY) == (at in ("sync", "_remove_work"))
    if not found.has(KEY):
        publish(found)
    found.tidy(KEY)
    assert list(found.manifest(KEY)["files"]) == ["file.txt"]
    assert (found.folder(KEY) / "file.txt").read_text("utf-8") == "hello"
    assert list((tmp_path / ".work").iterdir()) == []


def test_half_an_artifact_is_replaced(tmp_path: Path) -> None:
    """Someone removed it, and was interrupted."""
    found = Store(tmp_path)
    (publish(found, "old") / "manifest.json").unlink()
    assert (publish(found, "new") / "file.txt").read_text("utf-8") == "new"
    assert found.folder(KEY) and list((tmp_path / ".work").iterdir()) == []


def test_what_is_to_be_computed_again_stays_until_it_is_replaced(tmp_path: Path) -> None:
    found = Store(tmp_path)
    folder = publish(found, "old")
    found.make_scratch(KEY)
    found.discard(KEY)
    assert not found.has(KEY) and not found.scratch(KEY).exists()
    assert (folder / "file.txt").read_text("utf-8") == "old"
    assert publish(found, "new") == folder and (found.folder(KEY) / "file.txt").read_text("utf-8") == "new"
    assert list((tmp_path / ".work").iterdir()) == []


def test_a_manifest_records_the_version(tmp_path: Path) -> None:
    from distilc.runtime.execution.code_identity import code_identity

    found = Store(tmp_path)
    publish(found)
    identity = code_identity()
    assert found.manifest(KEY)["distilc"] == {"version": identity.version, "code": identity.code}
