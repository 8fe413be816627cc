"""The commands on specs of several runs: which are chosen, what is handed over, what is held to the locks."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML
from spec_texts import SMALL as SPEC

from distilc.compiler.cli import distilc

SWEEP = """
variants:
  sft: {}
  kd: {loss: {labels: 1, logits: {weight: 0.8}}}
  pl: {pseudo_labels: {own: {by: teacher}}, targets: [own]}
matrix: {student.decoder_layers: [1, 2, 3, 6]}
seeds: [1, 2]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`spec.yaml` with one run, `sweep.yaml` with 24."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    Path("spec.yaml").write_text(SPEC, "utf-8")
    Path("sweep.yaml").write_text(f"extends: spec.yaml\n{SWEEP}", "utf-8")
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(distilc, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def handed_over(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[list[str]]]:
    """Every command line that the runtime would get."""
    calls: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        assert program == sys.executable and words[:3] == [sys.executable, "-m", "distilc.runtime"]
        calls.append(words[3:])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    return run("run", *arguments), calls


def read(folder: str) -> Any:
    return json.loads((Path(folder) / "plan.json").read_text("utf-8"))


def names(words: list[str]) -> list[str]:
    return [Path(word).name for word in words[1:] if not word.startswith("-")]


# --- run -------------------------------------------------------------------------------------------


def test_all_runs_of_a_spec_are_handed_over_in_one_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, calls = handed_over(monkeypatch, "sweep.yaml", "--until", "train")
    assert result.exit_code == 0, result.output
    (words,) = calls
    assert words[0] == "run" and words[-2:] == ["--until", "train"]
    plans = words[1:-2]
    assert len(plans) == len(set(plans)) == 24
    assert names(plans)[:3] == [  # the first word is not a plan to `names`
        "small-sft-decoder_layers-1-seed2", "small-sft-decoder_layers-2-seed1", "small-sft-decoder_layers-2-seed2",
    ]  # fmt: skip
    assert [Path(plan).parent for plan in plans] == [folder / ".distilc" / "plans"] * 24


def test_what_runs_share_has_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of 24 trains one teacher and has its labels written once."""
    _, (words,) = handed_over(monkeypatch, "sweep.yaml")
    keys: dict[str, Counter[str]] = {}
    for plan in words[1:]:
        for stage in read(plan)["stages"]:
            keys.setdefault(stage["id"], Counter())[stage["key"]] += 1
    for id, runs in {"tokenizer": 24, "teacher": 24, "data": 24, "teacher-train": 24, "labels-own": 8, "targets": 8,
                     "evaluate-teacher": 24, "benchmark-teacher": 24}.items():  # fmt: skip
        assert list(keys[id].values()) == [runs], id
    assert len(keys["student"]) == 4 and len(keys["train"]) == len(keys["evaluate-student"]) == 24


def test_only_chooses_runs_of_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (words,) = handed_over(monkeypatch, "sweep.yaml", "--only", "kd-*-1-*", "--only", "sft-decoder_layers-6-seed2")
    assert names(words) == [
        "small-sft-decoder_layers-6-seed2", "small-kd-decoder_layers-1-seed1", "small-kd-decoder_layers-1-seed2",
    ]  # fmt: skip
    assert len(os.listdir(".distilc/plans")) == 3, "what is not run is not written"


def test_only_chooses_among_plans_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", "sweep.yaml", "-o", "p").exit_code == 0
    _, (words,) = handed_over(monkeypatch, "p", "--only", "kd-decoder_layers-1-seed1", "--only", "*-6-seed2")
    assert names(words) == [
        "small-kd-decoder_layers-1-seed1", "small-kd-decoder_layers-6-seed2", "small-pl-decoder_layers-6-seed2",
        "small-sft-decoder_layers-6-seed2",
    ]  # fmt: skip
    _, (words,) = handed_over(monkeypatch, "p")
    assert len(words) == 25


def test_plans_and_specs_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", "sweep.yaml", "-o", "p", "--only", "pl-*-1-*").exit_code == 0
    Path("last.yaml").write_text("extends: spec.yaml\nname: last\n", "utf-8")
    _, (words,) = handed_over(monkeypatch, "spec.yaml", "p", "last.yaml")
    assert names(words) == [
        "small", "small-pl-decoder_layers-1-seed1", "small-pl-decoder_layers-1-seed2", "last"
    ]  # fmt: skip
    _, (words,) = handed_over(monkeypatch, "spec.yaml", "p", "last.yaml", "--only", "*a[sl]t", "--only", "*seed2")
    assert names(words) == ["small-pl-decoder_layers-1-seed2", "last"]


@pytest.mark.parametrize("command", [["run"], ["compile"], ["explain"], ["explain", "--resolved"]])
def test_a_pattern_that_means_nothing_is_a_diagnosis(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execv", lambda *words: pytest.fail("it was run"))
    result = run(*command, "sweep.yaml", "--only", "kd-*", "--only", "decoder_layers")
    assert result.exit_code == 1 and not result.stdout
    assert "--only:2:1: E561: no run has the name 'decoder_layers'" in result.output
    assert "the runs are sft-decoder_layers-1-seed1, " in result.output and "and 12 more" in result.output
    assert not Path(".distilc/plans").exists()


def test_a_plan_that_cannot_be_read_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("p/a").mkdir(parents=True)
    Path("p/a/plan.json").write_text("{", "utf-8")
    result, calls = handed_over(monkeypatch, "p", "--only", "a")
    assert result.exit_code == 1 and not calls and "E562" in result.output


def test_a_wrong_run_that_is_not_chosen_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("some.yaml").write_text("extends: spec.yaml\nvariants: {good: {}, bad: {stopping: {monitor: rouge2}}}\n")
    result, calls = handed_over(monkeypatch, "some.yaml")
    assert result.exit_code == 1 and not calls and "E403" in result.output
    result, calls = handed_over(monkeypatch, "some.yaml", "--only", "good")
    assert result.exit_code == 0 and names(calls[0]) == ["small-good"] and "E403" not in result.output
    assert run("check", "some.yaml").exit_code == 1


def test_a_wrong_spec_beside_a_right_one_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.yaml").write_text("extends: spec.yaml\nname: bad\nbatch: 3\n", "utf-8")
    result, calls = handed_over(monkeypatch, "sweep.yaml", "bad.yaml")
    assert result.exit_code == 1 and not calls and not Path(".distilc/plans").exists()


def test_one_plan_named_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", "spec.yaml").exit_code == 0
    result, calls = handed_over(monkeypatch, "spec.yaml", ".distilc/plans/small")
    assert (result.exit_code, calls) == (2, [])


# --- explain, compile ------------------------------------------------------------------------------


def test_explain_only_some() -> None:
    runs = json.loads(run("explain", "--json", "sweep.yaml", "--only", "*-1-seed1").stdout)["runs"]
    assert [one["name"] for one in runs] == [
        f"small-{variant}-decoder_layers-1-seed1" for variant in ("sft", "kd", "pl")
    ]
    text = run("explain", "sweep.yaml", "--only", "kd-decoder_layers-3-seed2").stdout
    assert "small-kd-decoder_layers-3-seed2" in text and "small-sft" not in text


def test_resolved_is_one_document_a_run() -> None:
    text = run("explain", "--resolved", "sweep.yaml").stdout
    trees = list(YAML(typ="safe", pure=True).load_all(text))
    assert len(trees) == 24 and trees[0]["name"] == "small-sft-decoder_layers-1-seed1"
    assert all(not {"variants", "matrix", "extends"} & set(tree) and len(tree["seeds"]) == 1 for tree in trees)
    (alone,) = YAML(typ="safe", pure=True).load_all(
        run("explain", "--resolved", "sweep.yaml", "--only", "kd-decoder_layers-6-seed2").stdout
    )
    assert alone["student"]["decoder_layers"] == 6 and alone["seeds"] == [2]


def test_compile_only_some() -> None:
    result = run("compile", "sweep.yaml", "-o", "p", "--only", "kd-decoder_layers-6-*")
    assert result.stdout == "p/small-kd-decoder_layers-6-seed1\np/small-kd-decoder_layers-6-seed2\n"


def test_locked_names_what_moved_and_in_which_runs() -> None:
    only = ["sweep.yaml", "-o", "p", "--only", "*-1-seed1"]
    assert run("compile", *only).exit_code == 0
    assert run("compile", "--locked", *only).exit_code == 0
    result = run("compile", "--locked", *only, "--set", "training.dropout=0.2")
    assert result.exit_code == 1
    assert "E518: spec.training.dropout was inherit, is 0.2 (all 3 runs)" in result.output
    text = Path("sweep.yaml").read_text("utf-8")
    Path("sweep.yaml").write_text(text.replace("weight: 0.8", "weight: 0.9"), "utf-8")
    result = run("compile", "--locked", *only)
    moved = "spec.loss.logits.weight was 0.8, is 0.9 (small-kd-decoder_layers-1-seed1)"
    assert result.exit_code == 1 and f"E518: {moved}" in result.output and result.output.count("E518") == 1
    result = run("compile", "--locked", "sweep.yaml", "-o", "p", "--only", "*-[13]-seed1")
    assert result.output.count("E517") == 3, "three runs have no lock yet"
    assert json.loads(Path("p/small-kd-decoder_layers-1-seed1/plan.json").read_text())["spec"]["loss"]["logits"]["weight"] == 0.8
