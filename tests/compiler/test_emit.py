"""The plan on disk: one schema, held to the runtime's dataclasses; files whole, canonical and complete."""

import copy
import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from distilc.compiler.extensions.built_in import built_in
from distilc.compiler.plan.emit import emit, plan_text, validate_plan
from distilc.compiler.plan.plan import Stages
from distilc.runtime.failure import Failure
from distilc.runtime.plan.load import bind_plan, load_plan
from distilc.runtime.plan.plan import Plan, Stage
from distilc.runtime.plan.settings import KINDS, OwnSettings

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schema" / "plan.schema.json").read_text("utf-8"))
GOLDEN = Path(__file__).parent / "golden"


# --- schema and dataclasses ------------------------------------------------------------------------


def resolved(fragment):
    while "$ref" in fragment:
        fragment = SCHEMA["$defs"][fragment["$ref"].removeprefix("#/$defs/")]
    return fragment


def kinds_of(fragment) -> set[str]:
    types = fragment.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def agree(kind: Any, fragment: dict, path: str) -> None:
    """Assert that a schema fragment takes what a type of the runtime's plan takes."""
    if kind is Any:
        return
    fragment = resolved(fragment)
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = [choice for choice in get_args(kind) if choice is not NoneType]
        if "anyOf" in fragment:
            null, other = fragment["anyOf"]
            assert null == {"type": "null"}, path
            agree(inner, other, path)
        else:
            assert "null" in kinds_of(fragment), path
            agree(inner, {**fragment, "type": next(iter(kinds_of(fragment) - {"null"}))}, path)
        return
    assert "null" not in kinds_of(fragment) and "anyOf" not in fragment, path
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        names = {field.name for field in dataclasses.fields(kind)}
        assert set(fragment["properties"]) == names, path
        later = {  # options that came after the first plans: absent where they are off
            field.name
            for field in dataclasses.fields(kind)
            if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        }
        assert names - later <= set(fragment["required"]) <= names, path
        assert fragment["additionalProperties"] is False, path
        for name in names:
            if not (kind is Stage and name == "settings"):
                agree(hints[name], fragment["properties"][name], f"{path}.{name}")
    elif origin is Literal:
        assert fragment["enum"] == list(get_args(kind)), path
    elif origin is tuple and get_args(kind)[1:] == (Ellipsis,):
        assert kinds_of(fragment) == {"array"}, path
        agree(get_args(kind)[0], fragment["items"], f"{path}[]")
    elif origin is tuple:
        assert (kinds_of(fragment), fragment["items"], fragment["minItems"]) == ({"array"}, False, len(get_args(kind)))
        for i, (item, entry) in enumerate(zip(get_args(kind), fragment["prefixItems"], strict=True)):
            agree(item, entry, f"{path}[{i}]")
    elif origin is Mapping:
        assert kinds_of(fragment) == {"object"}, path
        agree(get_args(kind)[1], fragment.get("additionalProperties", {}), f"{path}.*")
    else:
        assert kinds_of(fragment) == {{str: "string", int: "integer", float: "number", bool: "boolean"}[kind]}, path


def test_the_schema_is_the_runtimes_plan():
    agree(Plan, SCHEMA, "plan")


def test_every_kind_has_its_settings_in_the_schema():
    stage = SCHEMA["$defs"]["Stage"]
    *rules, others = stage["allOf"]
    chosen = {rule["if"]["properties"]["kind"]["const"]: rule["then"]["properties"]["settings"] for rule in rules}
    assert list(chosen) == list(KINDS) == others["if"]["properties"]["kind"]["not"]["enum"]
    assert set(chosen) == set(built_in("stages"))
    agree(OwnSettings, others["then"]["properties"]["settings"], "a kind that a spec names under `stages`")
    for kind, settings in KINDS.items():
        agree(settings, chosen[kind], kind)


def test_no_definition_is_left_over():
    text = json.dumps(SCHEMA)
    assert [name for name in SCHEMA["$defs"] if f'"#/$defs/{name}"' not in text] == []


# --- golden plans ------------------------------------------------------------------------------------


def golden_text(plan) -> str:
    """A plan with what belongs to the checkout and the workspace taken out."""
    plan = copy.deepcopy(plan)
    plan["site"]["workspace"] = "WORKSPACE"
    plan["places"] = {"name": [Path(plan["places"]["name"][0]).name, 1, 1]}  # a comment may move the rest
    return plan_text(plan)


@pytest.mark.parametrize("name", ["quickstart", "recipes/kd", "recipes/pseudo-labels"])
def test_golden_plans(compile_text, name):
    text = (ROOT / "specs" / f"{name}.yaml").read_text("utf-8")
    found = golden_text(compile_text(text=text, per_node=2).plan)
    file = GOLDEN / f"{Path(name).name}.plan.json"
    if os.environ.get("DISTILC_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(found, "utf-8")
    assert found == file.read_text("utf-8"), "the plan changed; if it should: DISTILC_WRITE_GOLDEN=1 pytest ..."


def golden() -> dict:
    plan = json.loads((GOLDEN / "quickstart.plan.json").read_text("utf-8"))
    plan["site"]["workspace"] = "/workspace"
    return plan


def test_the_golden_plan_binds():
    plan = bind_plan(golden())
    assert plan.stage("train").settings.batch.size == 2048


# --- both readers refuse the same plans ----------------------------------------------------------------

DELETE = object()


def changed(plan, path, value):
    *way, last = path
    node = plan
    for step in way:
        node = node[step]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return plan


TRAIN = 5  # the student's training is the sixth stage
MUTATIONS = {
    "another format": (("format",), 2),
    "no format": (("format",), DELETE),
    "unknown key": (("extra",), 1),
    "missing key": (("metrics",), DELETE),
    "key of the wrong type": (("seed",), "42"),
    "boolean for a number": (("seed",), True),
    "unknown key of a stage": (("stages", 0, "extra"), 1),
    "missing key of a stage": (("stages", 0, "needs"), DELETE),
    "unknown kind": (("stages", 0, "kind"), "bake"),
    "settings of another kind": (("stages", TRAIN, "kind"), "evaluate"),
    "unknown setting": (("stages", TRAIN, "settings", "momentum"), 0.9),
    "missing setting": (("stages", TRAIN, "settings", "freeze"), DELETE),
    "unknown freeze": (("stages", TRAIN, "settings", "freeze"), ["head"]),
    "unknown schedule": (("stages", TRAIN, "settings", "schedule"), "linaer"),
    "text for a number": (("stages", TRAIN, "settings", "learning_rate"), "3e-4"),
    "null for a number": (("stages", TRAIN, "settings", "learning_rate"), None),
    "three betas": (("stages", TRAIN, "settings", "optimizer", "betas"), [0.9, 0.99, 0.999]),
    "one beta": (("stages", TRAIN, "settings", "optimizer", "betas"), [0.9]),
    "fraction for a count": (("stages", TRAIN, "settings", "batch", "size"), 8.5),
    "unknown execution": (("stages", TRAIN, "execution", "threads"), 2),
    "unknown device": (("site", "device"), "tpu"),
    "place without a column": (("places", "name"), ["spec.yaml", 1]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_both_halves_refuse(mutation, tmp_path):
    path, value = MUTATIONS[mutation]
    plan = changed(golden(), path, value)
    with pytest.raises(ValueError, match="does not fit its schema"):
        validate_plan(plan)
    (tmp_path / "plan.json").write_text(json.dumps(plan), "utf-8")
    with pytest.raises(Failure):
        load_plan(tmp_path)


@pytest.mark.parametrize("key", ["gradient_cliping", "optimizer", "train_batch_size"])
def test_a_misspelt_key_for_deepspeed_is_refused(key):
    with pytest.raises(ValueError, match="does not fit its schema"):
        validate_plan(changed(golden(), ("stages", TRAIN, "execution", "deepspeed", key), 1))


# --- files -------------------------------------------------------------------------------------------


def test_a_plan_folder(compile_text, tmp_path):
    lowered = compile_text(per_node=2)
    folder = tmp_path / "plans" / "small"
    folder.mkdir(parents=True)
    (folder / "deepspeed.old-stage.json").write_text("{}", "utf-8")
    assert emit(lowered.typed, folder) == folder
    assert sorted(file.name for file in folder.iterdir()) == [
        "deepspeed.teacher-train.json", "deepspeed.train.json", "launch.sh", "lock.yaml", "plan.json",
    ]  # fmt: skip
    loaded = load_plan(folder)  # which finds the digest to be its own
    assert loaded == dataclasses.replace(bind_plan(lowered.plan), digest=loaded.digest) and loaded.digest
    assert json.loads((folder / "deepspeed.train.json").read_text("utf-8")) == (
        load_plan(folder).stage("train").execution.deepspeed
    )


def test_a_plan_is_written_the_same_every_time(compile_text, tmp_path):
    texts = []
    for name in ("one", "other"):
        folder = emit(compile_text().typed, tmp_path / name)
        texts.append((folder / "plan.json").read_text("utf-8"))
    assert texts[0] == texts[1]
    assert texts[0].endswith("}\n")
    assert list(json.loads(texts[0])) == sorted(json.loads(texts[0]))


def test_a_plan_that_does_not_fit_is_not_written(compile_text, tmp_path):
    plan = compile_text().typed
    train = dataclasses.replace(plan.train, settings={**plan.train.settings, "momentum": 0.9})
    with pytest.raises(ValueError, match="momentum"):
        emit(dataclasses.replace(plan, stages=Stages({**plan.stages, "train": train})), tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_a_place_that_cannot_be_written(compile_text, tmp_path):
    (tmp_path / "taken").write_text("", "utf-8")
    with pytest.raises(OSError):
        emit(compile_text().typed, tmp_path / "taken" / "plan")


def test_launch_sh_runs_its_own_folder(compile_text, tmp_path):
    folder = emit(compile_text(per_node=2).typed, tmp_path / "a plan")
    assert os.access(folder / "launch.sh", os.X_OK)
    program = tmp_path / "bin" / "distilc"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', "utf-8")
    program.chmod(0o755)
    result = subprocess.run(
        [folder / "launch.sh", "--until", "train"], capture_output=True, text=True, check=True, cwd="/",
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert result.stdout.splitlines() == ["run", str(folder), "--until", "train"]


def test_launch_sh_tells_the_command_of_the_workers(compile_text, tmp_path):
    hosts = tmp_path / "hosts"
    text = (emit(compile_text(per_node=4, nodes=2, hostfile=hosts).typed, tmp_path / "p") / "launch.sh").read_text()
    assert f"deepspeed --hostfile {hosts} --num_nodes 2 --num_accelerators 4 --no_local_rank" in text
    assert "--module distilc.runtime worker" in text
    assert "/control/by-hand\n" in text  # what a driver says is not said to them
    assert "--no_ssh --node_rank" in text
    assert "--no_ssh" not in (emit(compile_text().typed, tmp_path / "q") / "launch.sh").read_text()


@pytest.mark.parametrize("name", ["a\ntouch canary\n", "a\rtouch canary\r", "a\u2028touch canary", "$(touch canary)`touch canary`"])
def test_no_name_becomes_a_command_of_launch_sh(name, compile_text, tmp_path):
    plan = compile_text(per_node=4, nodes=2, hostfile=tmp_path / name / "hosts").typed
    found = dataclasses.replace(plan.found, teacher=dataclasses.replace(plan.found.teacher, name=name))
    site = dataclasses.replace(plan.site, workspace=Path(f"/nowhere/{name}"))
    folder = emit(dataclasses.replace(plan, found=found, site=site), tmp_path / "p")
    lines = (folder / "launch.sh").read_text("utf-8").splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    assert code == ["set -eu", 'plan=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)', 'exec distilc run "$plan" "$@"']
    (tmp_path / "distilc").write_text("#!/bin/sh\n")
    (tmp_path / "distilc").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([folder / "launch.sh"], check=True, cwd=tmp_path, env=environment)
    assert not (tmp_path / "canary").exists()
