"""Plans that were edited or come from others: refused when they are read, before anything of them is done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.commands.run import Options, main
from distilc.runtime.failure import Failure
from distilc.runtime.plan.keys import FACTS as IN_DIGEST
from distilc.runtime.plan.keys import facts_digest, run_key, stage_key
from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Plan

SAMPLE = json.loads(Path(__file__).with_name("sample_plan.json").read_text("utf-8"))
TRAIN = [stage["id"] for stage in SAMPLE["stages"]].index("train")


def make_keys(tree: dict[str, Any]) -> None:
    """Give a plan the keys of what it says, as somebody would who knows how."""
    keys: dict[str, str] = {}
    for stage in tree["stages"]:
        needs = {role: keys[id] for role, id in stage["needs"].items()}
        keys[stage["id"]] = stage["key"] = stage_key(stage["kind"], stage["settings"], needs)
    tree["key"] = run_key(tree["stages"])


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(json.dumps(SAMPLE))
    tree["site"]["workspace"] = str(tmp_path / "workspace")
    return tree


def refused(tree: Any, folder: Path) -> Failure:
    """How a plan is refused, by the reader and by `run`, which leaves nothing behind."""
    folder.mkdir(exist_ok=True)
    file = folder / "plan.json"
    file.write_text(tree if isinstance(tree, str) else json.dumps(tree), "utf-8")
    with pytest.raises(Failure) as told:
        load_plan(file)
    before = sorted(folder.parent.rglob("*"))
    assert main([folder], Options(redo=["train"])) == 1
    assert sorted(folder.parent.rglob("*")) == before
    return told.value


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a setting": lambda tree: tree["stages"][TRAIN]["settings"].update(learning_rate=1e-2),
    "a setting of what is needed": lambda tree: tree["stages"][1]["settings"].update(max_source_tokens=32),
    "what a stage needs": lambda tree: tree["stages"][TRAIN]["needs"].update(model="teacher"),
    "the key of a stage": lambda tree: tree["stages"][TRAIN].update(key="0" * 64),
    "the key of the run": lambda tree: tree.update(key="0" * 64),
    "a stage that is gone": lambda tree: tree["stages"].pop(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_plan_is_not_run_under_its_old_keys(edit: str, sample: dict[str, Any], tmp_path: Path) -> None:
    EDITS[edit](sample)
    told = refused(sample, tmp_path / "plan")
    assert told.code == "R110" and "is not that of its settings" in told.message
    # What a plan of an earlier version has computed can still be looked at.
    assert load_plan(tmp_path / "plan", to_run=False).name == sample["name"]


FACTS: dict[str, Any] = {
    "seed": 43, "metrics": ["rouge2"], "spec": {"seed": 43}, "task": "translation", "copy": {"encoder": [0], "decoder": [0]},
    "tracking": {"experiment": "another", "tags": {}}, "expect": {"student": {"scores": {}, "within": 1.0, "source": None}},
}  # fmt: skip


def test_all_that_a_plan_says_is_in_a_key_or_in_the_digest_or_of_a_machine() -> None:
    assert {entry.name for entry in fields(Plan)} - {*IN_DIGEST} == {"format", "key", "stages", "site", "places", "digest"}


@pytest.mark.parametrize("fact", FACTS)
def test_a_plan_that_was_edited_beside_its_stages_is_not_run(fact: str, sample: dict[str, Any], tmp_path: Path) -> None:
    sample["digest"] = facts_digest(sample)
    (tmp_path / "plan.json").write_text(json.dumps({**sample, "site": {**sample["site"], "per_node": 2}}), "utf-8")
    assert load_plan(tmp_path).site.per_node == 2  # that is of a machine
    told = refused({**sample, fact: FACTS[fact]}, tmp_path / "plan")
    assert told.code == "R110" and "seed, metrics, spec" in told.message


def test_a_plan_of_another_format_of_a_stage_is_not_run(
    sample: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distilc.runtime.plan import keys

    monkeypatch.setitem(keys.STAGE_FORMATS, "data", 99)
    assert refused(sample, tmp_path / "plan").code == "R110"


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "key": lambda tree: tree["stages"][TRAIN].update(key="../../../canary"),
    "key with a line feed": lambda tree: tree["stages"][TRAIN].update(key="a" * 64 + "\n"),
    "key of the run": lambda tree: tree.update(key="../../.."),
    "name": lambda tree: tree.update(name="../../canary"),
    "name with a line feed": lambda tree: tree.update(name="news\n"),
    "hidden name": lambda tree: tree.update(name=".."),
    "id": lambda tree: tree["stages"][-1].update(id="../../evaluate"),
    "test set": lambda tree: tree["stages"][1]["settings"].update(test={"../../../x": []}),
    "test set with a line feed": lambda tree: tree["stages"][1]["settings"].update(test={"x\n": []}),
    "relative workspace": lambda tree: tree["site"].update(workspace="here"),
    "half a workspace": lambda tree: tree["site"].update(workspace="/tmp\0x"),
    "relative scratch": lambda tree: tree["site"].update(scratch="../x"),
    "relative shared store": lambda tree: tree["site"].update(shared_stores=["x"]),
    "no process": lambda tree: tree["site"].update(per_node=0),
    "a billion of billions of processes": lambda tree: tree["site"].update(per_node=10**18),
    "location": lambda tree: tree["stages"][1]["execution"].update(locations={"a": "rows.jsonl"}),
    "repository that is a folder": lambda tree: tree["stages"][0]["settings"].update(kind="hub", repository="/etc"),
    "revision that is a path": lambda tree: tree["stages"][0]["settings"].update(revision="../../x"),
    "data set that is a folder": lambda tree: tree["stages"][1]["settings"]["train"][0].update(kind="hub", name="./x"),
    "a stage twice": lambda tree: tree["stages"].append(tree["stages"][-1]),
    "no stages": lambda tree: tree.update(stages=[]),
    "no training": lambda tree: tree.update(stages=tree["stages"][:TRAIN]),
    "another kind": lambda tree: tree["stages"][0].update(kind=["teacher"]),
    "a number beyond all numbers": lambda tree: tree["stages"][TRAIN]["execution"].update(save_minutes=10**400),
    "what DeepSpeed writes": lambda tree: _engine(tree).update(csv_monitor={"enabled": True, "output_path": "/tmp"}),
    "what DeepSpeed would clip": lambda tree: _engine(tree).update(gradient_clipping=1e-9),
    "what DeepSpeed would calculate with": lambda tree: _engine(tree).update(bf16={"enabled": True}),
    "where DeepSpeed would write": lambda tree: _engine(tree)["zero_optimization"].update(
        offload_param={"device": "nvme", "nvme_path": "/tmp"}
    ),
    "states that are none": lambda tree: tree["stages"][TRAIN]["execution"].update(signals={"encoder": "data"}),
}


def _engine(tree: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = tree["stages"][TRAIN]["execution"]["deepspeed"]
    return config


@pytest.mark.parametrize("attack", HOSTILE)
def test_nothing_of_a_plan_leads_out_of_the_workspace(
    attack: str, sample: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "mine.txt").write_text("kept")
    HOSTILE[attack](sample)
    if "key" not in attack and sample["stages"] and isinstance(sample["stages"][0]["kind"], str):
        make_keys(sample)
    assert refused(sample, tmp_path / "plan").code == "R104"
    assert (tmp_path / "canary" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "[" * 200_000, '{"format": 1, "spec": ' + "[" * 500 + "]" * 500 + "}", "\ufeff{}", "1e999",
     '{"format": NaN}', "\udc80".encode("utf-8", "surrogateescape").decode("latin-1"), "1" * 5000],
)  # fmt: skip
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path / "plan").code in ("R102", "R103")


def test_numbers_that_are_none_are_refused(sample: dict[str, Any], tmp_path: Path) -> None:
    sample["stages"][TRAIN]["execution"]["save_minutes"] = float("nan")
    assert refused(sample, tmp_path / "plan").code == "R104"


def test_half_a_character_has_no_key(sample: dict[str, Any], tmp_path: Path) -> None:
    sample["stages"][1]["settings"]["prefix"] = "\ud83d"
    assert refused(sample, tmp_path / "plan").code == "R104"


@pytest.mark.parametrize("to_run", [True, False])
def test_a_pipe_is_no_plan_and_nobody_waits_for_it(tmp_path: Path, to_run: bool) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(Failure) as told:
        load_plan(tmp_path, to_run=to_run)
    assert told.value.code == "R101" and "no regular file" in told.value.message


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70])
def test_a_seed_that_no_generator_takes(sample: dict[str, Any], tmp_path: Path, seed: int) -> None:
    sample["stages"][TRAIN]["settings"]["seed"] = seed
    make_keys(sample)
    failure = refused(sample, tmp_path / "plan")
    assert failure.code == "R104" and f"seed must be a number from 0 to 4294967295, is {seed}" in failure.message


def test_a_training_in_phases_knows_where_each_is_written(sample: dict[str, Any], tmp_path: Path) -> None:
    """The stage of an earlier phase comes before `train`, which begins with its model."""
    stages = sample["stages"]
    first = json.loads(json.dumps(stages[TRAIN]))
    first["id"] = "train-1"
    first["settings"]["learning_rate"] = 1e-3
    stages.insert(TRAIN, first)
    stages[TRAIN + 1]["needs"]["model"] = "train-1"
    make_keys(sample)
    sample["digest"] = facts_digest(sample)
    (tmp_path / "plan.json").write_text(json.dumps(sample), "utf-8")
    plan = load_plan(tmp_path)
    assert [stage.id for stage in plan.phases] == ["train-1", "train"]
    assert [stage.section for stage in plan.phases] == ["training[0].", "training[1]."]
    assert [stage.optimization for stage in plan.phases] == ["training[0]", "training[1]"]
    (tmp_path / "one").mkdir()
    tree = json.loads(json.dumps(SAMPLE))
    (tmp_path / "one" / "plan.json").write_text(json.dumps(tree), "utf-8")
    one = load_plan(tmp_path / "one")
    assert [(stage.section, stage.optimization) for stage in one.phases] == [("", "training")]
