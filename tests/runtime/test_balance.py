"""Warnings about terms that vanish or swamp the others, and the way of a warning to the console."""

from __future__ import annotations

import json
from pathlib import Path

from distilc.runtime.execution.control import Control
from distilc.runtime.messages.notices import Notice, Notices, read_notices
from distilc.runtime.training.balance import WINDOW_STEPS, Balance
from distilc.runtime.training.schedule import Change

PATHS = {"labels": "labels.weight", "logits": "logits.weight", "cosine": "cosine"}


def run(
    raw: dict[str, float], weights: dict[str, float], steps: range, *, warmup_steps: int = 0, changes: dict[str, Change] | None = None,
    section: str = "",
) -> list[tuple[int, Notice]]:  # fmt: skip
    paths = {name: PATHS[name] for name in raw}
    balance = Balance(paths, changes or {}, warmup_steps, section)
    found = []
    for step in steps:
        now = {name: changes[paths[name]].at(step) if paths[name] in (changes or {}) else weights[name] for name in raw}  # type: ignore[index]
        balance.add(step, raw, now)
        found += [(step, notice) for notice in balance.notices()]
    return found


def test_a_vanishing_term_is_told_once_with_the_weight_that_mends_it() -> None:
    """5 of labels, 0.4 x 0.005 = 0.002 of logits, 0.5 of cosine."""
    found = run({"labels": 5.0, "logits": 0.005, "cosine": 1.0}, {"labels": 1.0, "logits": 0.4, "cosine": 0.5}, range(1, 200), warmup_steps=20)
    assert len(found) == 1
    step, notice = found[0]
    assert step == 20 + WINDOW_STEPS == 70 and notice.code == "R351" and notice.spec_path == "loss.logits.weight"
    assert notice.message == (
        "the term logits is 0.036 % of the loss in the steps 21 to 70: it hardly counts beside labels (90.88 %)"
    )
    assert notice.hint == "raise loss.logits.weight about 310 times, from 0.4 to 120: it is then a tenth of the loss"
    # With the advice followed, a tenth: w x 0.005 = 5.5 / 9.
    assert abs(0.4 * 305.6 * 0.005 / (0.4 * 305.6 * 0.005 + 5.5) - 0.1) < 1e-3


def test_a_term_that_swamps_the_others_is_told_and_not_they() -> None:
    ((_, notice),) = run({"labels": 0.001, "cosine": 10.0}, {"labels": 1.0, "cosine": 3.0}, range(1, 120))
    assert notice.code == "R352" and notice.spec_path == "loss.cosine"
    assert notice.message == "the term cosine is 100.00 % of the loss in the steps 1 to 50: the other terms hardly count"
    assert notice.hint == "lower loss.cosine about 3300 times, from 3 to 0.0009: the others are then a tenth of the loss"


def test_a_term_that_is_exactly_0_is_told_so() -> None:
    ((_, notice),) = run({"labels": 2.0, "cosine": 0.0}, {"labels": 1.0, "cosine": 1.0}, range(1, 120))
    assert notice.code == "R353" and "the term cosine was exactly 0 in the steps 1 to 50" in notice.message


def test_the_loss_of_a_teacher_that_is_trained_is_its_own() -> None:
    ((_, swamping),) = run({"labels": 0.001, "cosine": 10.0}, {"labels": 1.0, "cosine": 3.0}, range(1, 120), section="teacher.train.")
    assert swamping.spec_path == "teacher.train.loss.cosine" and swamping.hint.startswith("lower teacher.train.loss.cosine about")
    ((_, zero),) = run({"labels": 2.0, "cosine": 0.0}, {"labels": 1.0, "cosine": 1.0}, range(1, 120), section="teacher.train.")
    assert zero.spec_path == "teacher.train.loss.cosine" and "remove teacher.train.loss.cosine" in zero.hint


def test_an_interruption_changes_no_warning() -> None:
    """Of what a checkpoint kept the same window is judged, and what was told is not told again."""
    raw, weights = {"labels": 5.0, "logits": 0.0005}, {"labels": 1.0, "logits": 0.4}
    ((told, notice),) = run(raw, weights, range(1, 120))
    for interrupted in (told - 10, told + 10):
        first, second = (Balance({name: PATHS[name] for name in raw}, {}, 0) for _ in range(2))
        found = []
        for step in range(1, 120):
            now = first if step <= interrupted else second
            if step == interrupted + 1:
                second.load_state(json.loads(json.dumps(first.state())))
            now.add(step, raw, weights)
            found += [(step, one) for one in now.notices()]
        assert found == [(told, notice)]


def test_what_is_off_alone_or_on_its_way_is_not_judged() -> None:
    small = {"labels": 5.0, "logits": 0.005}
    assert run(small, {"labels": 1.0, "logits": 0.0}, range(1, 200)) == []
    assert run({"labels": 5.0}, {"labels": 1.0}, range(1, 200)) == []
    assert run({"labels": 5.0, "logits": 4.0}, {"labels": 1.0, "logits": 1.0}, range(1, 200)) == []
    ramp = {"logits.weight": Change(0.0, 1.0, "linear", begin=0, end=10_000)}
    assert run({"labels": 5.0, "logits": 5.0}, {"labels": 1.0}, range(1, 300), changes=ramp) == []
    # It comes on after step 100 and is judged 50 steps later.
    later = {"logits.weight": Change(0.0, 0.4, "step", begin=100, end=101)}
    ((step, notice),) = run(small, {"labels": 1.0}, range(1, 300), changes=later)
    assert step == 150 and notice.code == "R352" and notice.spec_path == "loss.labels.weight"


def test_a_warning_is_kept_and_shown_once_also_over_an_interruption(tmp_path: Path) -> None:
    control = Control(tmp_path / "control")
    control.folder.mkdir()
    notice = Notice("R351", "it vanishes", "raise it", "loss.cosine")
    for _ in range(2):  # the second time after an interruption
        notices = Notices(tmp_path / "warnings.jsonl", control.warnings_file)
        notices.add(notice)
        notices.add(notice)
    expected = {"code": "R351", "message": "it vanishes", "hint": "raise it", "spec_path": "loss.cosine"}
    assert control.warnings() == [expected]
    control.warnings_file.unlink()
    assert control.warnings() == []
    Notices(tmp_path / "warnings.jsonl", control.warnings_file).add(Notice("R352", "it swamps", "", "loss.cosine"))
    assert [record["code"] for record in control.warnings()] == ["R352"]


def test_what_a_stage_of_a_named_run_notices_points_into_that_runs_spec(tmp_path: Path) -> None:
    kept, shown = tmp_path / "kept.jsonl", tmp_path / "shown.jsonl"
    Notices(kept, shown, "large").add(Notice("R352", "it swamps", "", "loss.cosine"))
    assert [record["spec_path"] for file in (kept, shown) for record in read_notices(file)] == ["loss.cosine", "large/loss.cosine"]
