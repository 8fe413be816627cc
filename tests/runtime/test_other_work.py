"""What others do on our cores while we measure."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from distilc.runtime.execution import other_work
from distilc.runtime.execution.other_work import OtherWork, wait_until_quiet


def test_a_process_beside_us_is_seen() -> None:
    spinning = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        others = OtherWork()
        time.sleep(0.5)
        assert others.cores() > 0.25
    finally:
        spinning.kill()
        spinning.communicate()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two cores of ours and one that is not; time passes by `sleep` alone, `others` says how busy others are."""
    state = SimpleNamespace(now=100.0, busy=0.0, own=0.0, others=[])

    def sleep(seconds: float) -> None:
        state.now += seconds
        state.busy += seconds * (state.others.pop(0) if state.others else 0.0)

    def cpu_times(percpu: bool) -> list[SimpleNamespace]:
        ours = SimpleNamespace(user=state.busy + state.own, system=0.0, idle=7.0, steal=0.0)
        return [ours, SimpleNamespace(user=0.0, system=0.0, idle=9.0), SimpleNamespace(user=1e6 * state.now, system=0.0)]

    own = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=state.own, system=0.0))
    fake = SimpleNamespace(cpu_times=cpu_times, Process=lambda: own)
    monkeypatch.setattr(other_work, "psutil", fake)
    monkeypatch.setattr(other_work, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: state.now))
    monkeypatch.setattr(other_work, "os", SimpleNamespace(sched_getaffinity=lambda _: {0, 1}))
    return state


def test_our_own_work_is_not_counted(machine: SimpleNamespace) -> None:
    others = OtherWork()
    machine.now += 2.0
    machine.own += 3.5
    machine.busy += 1.0
    assert others.cores() == pytest.approx(0.5)


def test_waits_until_nobody_works(machine: SimpleNamespace) -> None:
    machine.others = [1.0, 0.9, 0.1, 1.0]
    wait_until_quiet()
    assert machine.now == pytest.approx(100.75)  # three looks of a quarter of a second


def test_does_not_wait_for_ever(machine: SimpleNamespace) -> None:
    machine.others = [1.0] * 100
    wait_until_quiet()
    assert machine.now == pytest.approx(105.0)
