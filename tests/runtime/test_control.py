"""A folder for each driver; how workers know that theirs is there, on its machine and on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distilc.runtime.execution import heartbeat, processes
from distilc.runtime.execution.control import BY_HAND, Control, latest_control, make_control
from distilc.runtime.execution.heartbeat import Watch, read_process, this_process, write_process
from distilc.runtime.execution.processes import Ranks, StopRequest
from distilc.runtime.failure import Failure

SINGLE_PROCESS = Ranks(rank=0, world=1, local_rank=0, local_world=1, device="cpu")


def test_two_drivers_of_one_run_do_not_stop_each_other(tmp_path: Path) -> None:
    first, second = make_control(tmp_path), make_control(tmp_path)
    with first.driven(), second.driven():
        first.stop_file.touch()
        first.fail(Failure("R302", "no memory"))
        assert StopRequest(first.stop_file, None, SINGLE_PROCESS).here() and not StopRequest(second.stop_file, None, SINGLE_PROCESS).here()
        assert second.failure() is None


def test_what_is_said_last_is_what_the_run_says(tmp_path: Path) -> None:
    assert latest_control(tmp_path) is None
    first, second = make_control(tmp_path), make_control(tmp_path)
    os.utime(second.folder, (1, 1))
    assert (found := latest_control(tmp_path)) is not None and found.folder == first.folder
    by_hand = Control(tmp_path / "control" / BY_HAND)
    by_hand.begin(0)
    os.utime(first.folder, (1, 1))
    assert (found := latest_control(tmp_path)) is not None and found.folder == by_hand.folder


def test_folders_of_drivers_that_ended_are_taken_away(tmp_path: Path) -> None:
    """Not at once: the workers of one that was killed save, and write into it."""
    day, hour = 86400.0, 3600.0
    ages = {"ended": hour, "just-ended": 1.0, "alive": 2 * day, "killed": 2 * day, "just-killed": hour}
    folders = {name: make_control(tmp_path) for name in ages}
    by_hand = Control(tmp_path / "control" / BY_HAND)
    by_hand.begin(0)
    write_process(folders["alive"].driver_file, this_process())
    for name in ("killed", "just-killed"):
        write_process(folders[name].driver_file, replace(this_process(), pid=999_999_999))
    for name, age in ages.items():
        os.utime(folders[name].folder, (time.time() - age,) * 2)
    os.utime(by_hand.folder, (1, 1))
    make_control(tmp_path)
    assert [name for name, control in folders.items() if control.folder.exists()] == ["just-ended", "alive", "just-killed"]
    assert by_hand.folder.exists()


def test_the_record_of_a_driver_is_there_while_it_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    control = make_control(tmp_path)
    with control.driven():
        first = read_process(control.driver_file)
        assert first is not None and first.here and first.running
        give_up = time.monotonic() + 10
        while (read_process(control.driver_file) or first).beat <= first.beat + 1 and time.monotonic() < give_up:
            time.sleep(0.01)
        later = read_process(control.driver_file)
        assert later is not None and later.beat > first.beat + 1 and later.is_process_of(first)
    assert sorted(file.name for file in control.folder.iterdir()) == []


def test_on_its_machine_a_driver_lives_by_the_process_table(tmp_path: Path) -> None:
    """At once, and though its heart stood still: it may be stopped (Ctrl-Z), and its disk slow."""
    sleeper = subprocess.Popen(["sleep", "60"])
    record = tmp_path / "driver.json"
    started = heartbeat.process_start(sleeper.pid)
    assert started is not None
    write_process(record, replace(this_process(), pid=sleeper.pid, started=started))
    watch = Watch(record, silence_seconds=0.0)
    assert watch.alive()
    sleeper.kill()
    sleeper.wait()
    assert not watch.alive()


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\0\0\0"])
def test_on_another_machine_a_driver_lives_by_its_beats(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock shows what it likes. A record that cannot be read for a while is no death."""
    now = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    record = tmp_path / "driver.json"
    watch = Watch(record, silence_seconds=20.0)
    for beat in range(4):
        record.write_text(json.dumps({**asdict(this_process()), "host": "n9", "beat": beat, "heartbeat": 7e9 - 1e6 * beat}))
        now[0] += 19.0
        assert watch.alive()
        if damage is None:
            record.unlink()
        else:
            record.write_bytes(damage)
        now[0] += 19.0
        assert watch.alive()
    now[0] += 2.0
    assert not watch.alive()


def test_a_worker_ends_after_its_driver(tmp_path: Path) -> None:
    """It is asked to stop; when it does not, because it hangs, it is ended."""
    driver = subprocess.Popen(["sleep", "60"])
    record = tmp_path / "driver.json"
    write_process(record, replace(this_process(), pid=driver.pid, started=heartbeat.process_start(driver.pid) or ""))
    code = f"""
        import time
        from pathlib import Path
        from distilc.runtime.execution import processes
        processes.DRIVER_GRACE_SECONDS = 1.0
        gone = processes.watch_driver(Path({str(record)!r}))
        print("up", flush=True)
        gone.wait(60)
        print("asked", flush=True)
        time.sleep(60)
    """
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "up\n"
    driver.kill()
    driver.wait()
    assert worker.stdout.readline() == "asked\n" and worker.wait(30) == 130


def test_workers_that_were_started_by_hand_have_no_driver(tmp_path: Path) -> None:
    assert not processes.watch_driver(tmp_path / "driver.json").wait(0.1)
    assert processes.DRIVER_SILENCE_SECONDS + processes.DRIVER_GRACE_SECONDS < 60


def test_a_driver_that_works_itself_is_not_watched(tmp_path: Path) -> None:
    """The record of a run goes with the run: a watch on it would end the process that is at the next one."""
    control = make_control(tmp_path)
    with control.driven():
        gone = processes.watch_driver(control.driver_file)
    assert not any(thread.name == "driver-watch" for thread in threading.enumerate()) and not gone.is_set()
