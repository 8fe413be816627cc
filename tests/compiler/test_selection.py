"""Runs by name."""

from __future__ import annotations

import pytest

from distilc.compiler.diagnostics.diagnostic import Places, Reporter
from distilc.compiler.spec.selection import choose_runs

NAMES = [("xsum-sft", "sft"), ("xsum-kd-seed1", "kd-seed1"), ("xsum-kd-seed2", "kd-seed2"), ("xsum-pl", "pl")]


def chosen(*patterns: str, names: list[tuple[str, str | None]] = NAMES) -> list[str]:  # type: ignore[assignment]
    reporter = Reporter(Places())
    found = choose_runs(names, patterns, "--only", reporter)
    assert not reporter.failed, reporter.diagnostics
    return [names[i][0] for i in found]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], ["xsum-sft", "xsum-kd-seed1", "xsum-kd-seed2", "xsum-pl"]),
        (["sft"], ["xsum-sft"]),
        (["xsum-pl"], ["xsum-pl"]),
        (["kd-*"], ["xsum-kd-seed1", "xsum-kd-seed2"]),
        (["*seed2"], ["xsum-kd-seed2"]),
        (["xsum-kd-seed[1]"], ["xsum-kd-seed1"]),
        (["pl", "sft"], ["xsum-sft", "xsum-pl"]),
    ],
)
def test_what_a_pattern_means(patterns: list[str], found: list[str]) -> None:
    assert chosen(*patterns) == found


def test_a_compiled_plan_is_meant_by_the_end_of_its_name() -> None:
    names: list[tuple[str, str | None]] = [("xsum-kd-seed1", None), ("xsum-skd", None)]
    assert chosen("kd-seed1", names=names) == chosen("seed1", names=names) == ["xsum-kd-seed1"]


@pytest.mark.parametrize("pattern", ["kd", "seed1", "SFT", "sf", "", "x*y"])
def test_a_pattern_that_means_nothing(pattern: str) -> None:
    reporter = Reporter(Places())
    assert choose_runs(NAMES, ["sft", pattern], "--only", reporter) == [0]
    (told,) = reporter.diagnostics
    assert (told.code, told.file, told.line) == ("E561", "--only", 2)
    assert told.hint.endswith("the runs are sft, kd-seed1, kd-seed2, pl")
    assert told.hint.startswith("did you mean sft? ") == (pattern in ("sf", "SFT"))


def test_the_only_run_of_a_spec_has_no_label() -> None:
    reporter = Reporter(Places())
    assert choose_runs([("alone", "")], [""], "--only", reporter) == []
    assert chosen("alone", names=[("alone", "")]) == ["alone"]


def test_many_runs_are_not_all_listed() -> None:
    reporter = Reporter(Places())
    choose_runs([(f"x-seed{i}", f"seed{i}") for i in range(40)], ["kd"], "--only", reporter)
    (told,) = reporter.diagnostics
    assert told.hint.endswith("seed11 and 28 more")
