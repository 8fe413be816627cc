"""Terms, metrics and families of installed packages: known from data alone, in keys and lock where they are used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from distilc.compiler.extensions.installed import installed
from distilc.compiler.extensions.terms import needs_of
from distilc.compiler.resolve.model_config import architecture_of
from distilc.compiler.spec.setting_paths import changed_settings
from distilc.compiler.spec.structure import load_schema, schema_text

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schema" / "experiment.schema.json"
FOCAL = "loss={labels: 0.5, focal: {weight: 0.5, gamma: 1.5}}"
SCORED = "evaluation.metrics=[rouge2, length_error]"
PLBART = "teacher.architecture.family=plbart"
PLBART_CONFIG = {
    "model_type": "plbart", "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def focal(focal_package: Path, install: Callable[[Path], None], tmp_path: Path) -> Path:
    """The example package, installed: a folder of this test's own."""
    shutil.copytree(focal_package, tmp_path / "installed", ignore=shutil.ignore_patterns("__pycache__"))
    install(tmp_path / "installed")
    return tmp_path / "installed"


def write_package(folder: Path, name: str, fragment: Any, **entries: str) -> None:
    """A package with one module, `ext`, as pip would leave it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[distilc.{kind}]\n{entry}\n" for kind, entry in entries.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    (folder / "ext.py").write_text("raise SystemExit('a package was imported')\n")
    (folder / "ext.schema.json").write_text(fragment if isinstance(fragment, str) else json.dumps(fragment))


def keys(found: Any) -> dict[str, str]:
    return {stage["id"]: stage["key"] for stage in found.plan["stages"]}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert list(one) == list(other)
    return {id for id in one if one[id] != other[id]}


# --- nothing installed, nothing changed --------------------------------------------------------------


def test_with_none_installed_the_schema_is_the_file() -> None:
    if installed():
        pytest.skip("a package that extends distilc is installed here")
    text = SCHEMA.read_text("utf-8")
    assert schema_text("experiment") == text
    assert load_schema("experiment").root == json.loads(text)


def test_with_none_installed_the_look_costs_no_import(tmp_path: Path) -> None:
    """importlib.metadata alone takes a tenth of a cold `check`."""
    probe = (
        "import sys\nfrom distilc.compiler.extensions.installed import installed\nassert not installed()\n"
        "import distilc.compiler.checks.check, distilc.compiler.plan.lower, distilc.compiler.explain.explain\n"
        "print('importlib.metadata' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    if "AssertionError" in result.stderr:
        pytest.skip("a package that extends distilc is installed here")
    assert result.stdout == "False\n", result.stderr


def test_an_extension_that_is_not_used_changes_nothing(
    compile_text: Callable[..., Any], focal_package: Path, install: Callable[[Path], None]
) -> None:
    before = compile_text()
    install(focal_package)
    after = compile_text()
    assert installed().usable("terms")
    assert before.diagnostics == after.diagnostics == []
    assert keys(before) == keys(after)
    assert all(stage["settings"].get("extensions", {}) == {} for stage in after.plan["stages"])


def test_a_broken_extension_that_is_not_used_breaks_nothing(
    compile_text: Callable[..., Any], install: Callable[[Path], None], tmp_path: Path
) -> None:
    write_package(tmp_path / "broken", "broken", "{", terms="focal = ext:FOCAL", metrics="brevity = nowhere:X")
    install(tmp_path / "broken")
    assert compile_text().diagnostics == []
    assert compile_text("loss={labels: 1.0, focal: 0.0}").diagnostics == []
    assert compile_text("loss={labels: 1.0, focal: 0.5}").codes == ["E553"]


def test_the_schema_of_a_package_s_own_file() -> None:
    schema = json.loads((ROOT / "schema" / "extension.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    example = ROOT / "tests" / "extension_package" / "distilc_focal" / "focal.schema.json"
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors(json.loads(example.read_text("utf-8"))))
    assert list(validator.iter_errors({"terms": {"focal": {"description": "No more than this."}}}))
    tasks = json.loads(SCHEMA.read_text("utf-8"))["properties"]["task"]["enum"]
    assert schema["$defs"]["tasks"]["items"]["enum"] == tasks


# --- the language ------------------------------------------------------------------------------------


def test_the_schema_knows_what_is_installed(focal: Path) -> None:
    schema = load_schema("experiment")
    Draft202012Validator.check_schema(schema.root)
    assert json.loads(schema_text("experiment")) == schema.root
    before = json.loads(SCHEMA.read_text("utf-8"))
    term = schema.root["$defs"]["loss"]["properties"]["focal"]
    assert "Focal loss" in term["description"] and "distilc-focal 0.1.0" in term["description"]
    for example in term["examples"]:
        assert not list(Draft202012Validator(term).iter_errors(example))
    for words, name in (({"rouge2", "bleu"}, "length_error"), ({"marian", "t5"}, "plbart")):
        ours = [choices for choices in enums(before) if words <= {*choices}]
        theirs = [choices for choices in enums(schema.root) if words <= {*choices}]
        assert ours and theirs == [[*choices, name] for choices in ours]


def enums(value: Any) -> list[list[Any]]:
    if isinstance(value, dict):
        own = [value["enum"]] if isinstance(value.get("enum"), list) else []
        return own + [found for below in value.values() for found in enums(below)]
    return [found for below in value for found in enums(below)] if isinstance(value, list) else []


def test_a_spec_that_uses_all_of_it_is_clean(focal: Path, compile_text: Callable[..., Any]) -> None:
    found = compile_text(
        FOCAL, PLBART, SCORED, "validation.metrics=[loss, length_error]", "stopping.monitor=length_error",
        "expect={student: {length_error: 30.0}}",
    )  # fmt: skip
    assert found.diagnostics == []
    own = found.experiment.training.loss.own
    assert {name: (dict(term), sorted(needs_of(name))) for name, term in own.items()} == {
        "focal": ({"weight": 0.5, "gamma": 1.5}, ["logits"])
    }
    assert found.stage("train")["settings"]["objective"]["own"] == {"focal": {"weight": 0.5, "gamma": 1.5}}


def test_the_short_form_and_the_defaults(focal: Path, compile_text: Callable[..., Any]) -> None:
    for text in ("loss.focal=0.25", "loss.focal={weight: 0.25}", "loss.focal={weight: 0.25, gamma: null}"):
        objective = compile_text(text).stage("train")["settings"]["objective"]
        assert objective["own"] == {"focal": {"weight": 0.25, "gamma": 2.0}}
    for text in ("loss={labels: 1.0, focal: 0}", "loss={labels: 1.0, focal: {weight: 0.0, gamma: 1}}"):
        assert compile_text(text).stage("train")["settings"]["objective"]["own"] == {}
    alone = compile_text("loss={focal: 1.0}")
    assert alone.codes == []
    assert alone.stage("train")["settings"]["objective"]["labels"] is None


@pytest.mark.parametrize(
    ("override", "code", "hint"),
    [
        ("loss.focal.gama=1.0", "E201", "did you mean `gamma`?"),
        ("loss.focl=1.0", "E201", "did you mean `focal`?"),
        ("loss.focal.gamma=11", "E205", ""),
        ("loss.focal.gamma=much", "E203", ""),
        ("evaluation.metrics=[lenght_error]", "E204", "did you mean length_error?"),
        ("teacher.architecture.family=plbert", "E204", "did you mean plbart?"),
    ],
)
def test_mistakes_in_it_are_told_as_any_other(
    override: str, code: str, hint: str, focal: Path, compile_text: Callable[..., Any]
) -> None:
    found = compile_text(override)
    assert found.codes == [code], found.diagnostics
    assert hint in "".join(diagnostic.hint for diagnostic in found.diagnostics)


def test_a_setting_without_a_default_must_be_written(
    install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    weight = {"description": "Weight.", "type": "number", "minimum": 0}
    depth = {"description": "How deep.", "type": "integer", "minimum": 1}
    names = {"description": "Which.", "type": "array", "items": {"type": "string"}, "default": []}
    term = {"description": "A term.", "tasks": ["summarization"], "needs": ["teacher", "hidden", "phi"]}
    fragment = {"terms": {"deep": {**term, "properties": {"weight": weight, "depth": depth, "names": names}}}}
    write_package(tmp_path / "one", "one", fragment, terms="deep = ext:DEEP")
    install(tmp_path / "one")
    assert compile_text("loss.deep={weight: 0.5}").codes == ["E202"]
    assert compile_text("loss.deep={depth: 2}").codes == ["E202"]
    assert compile_text("loss.deep=0.5").codes == ["E203"]  # no short form: a number says only the weight
    found = compile_text("loss={labels: 1, deep: {weight: 0.5, depth: 2}}", "phi.decoder=every-kth")
    assert found.codes == []
    train = found.stage("train")
    assert train["settings"]["objective"]["own"] == {"deep": {"weight": 0.5, "depth": 2, "names": []}}
    assert train["needs"]["teacher"] == "teacher-train"
    assert train["settings"]["objective"]["phi"]["decoder"] == [2, 5]


STAGE = {
    "stages": {
        "drift": {
            "description": "How far the student is from its teacher.",
            "tasks": ["summarization"],
            "needs": ["student", "teacher"],
            "properties": {
                "power": {"description": "Of the distance.", "type": "number", "minimum": 1, "default": 2.0},
                "of": {"description": "Which part.", "type": "string", "enum": ["encoder", "decoder"]},
            },
        }
    }
}


def test_a_stage_kind_of_a_package(
    install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    before = compile_text().plan
    found = compile_text("stages={drift: {of: decoder}}")
    assert found.codes == ["E201"] and "no package that is installed registers one" in found.diagnostics[0].hint
    write_package(tmp_path / "one", "one", STAGE, stages="drift = ext:DRIFT")
    install(tmp_path / "one")
    found = compile_text("stages={drift: {of: decoder}}")
    assert found.codes == []
    *others, stage = found.plan["stages"]
    assert (stage["id"], stage["kind"], stage["needs"]) == ("drift", "drift", {"student": "train", "teacher": "teacher-train"})
    assert stage["settings"]["own"] == {"of": "decoder", "power": 2.0}
    assert set(stage["settings"]["extensions"]) == {"stages.drift"}
    assert [other["key"] for other in others] == [other["key"] for other in before["stages"]]
    assert compile_text("stages={drift: {of: decoder, power: 3}}").stage("drift")["key"] != stage["key"]
    assert "stages" not in compile_text().plan["spec"]
    plans = {}
    for part in ("encoder", "decoder"):
        plans[part] = compile_text(f"stages={{drift: {{of: {part}}}}}").stage("drift")["settings"]
    (change,) = changed_settings("drift", "drift", plans["encoder"], plans["decoder"])
    assert change == ("stages.drift.of", "encoder", "decoder")


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("{drift: {}}", ["E202"]),
        ("{drift: {of: head}}", ["E204"]),
        ("{drift: {of: decoder, power: 0}}", ["E205"]),
        ("{drift: 2}", ["E203"]),
        ("{drfit: {of: decoder}}", ["E201"]),
        ("{evaluate: {}}", ["E201"]),
    ],
)
def test_a_stage_of_a_package_is_held_to_its_fragment(
    written: str, codes: list[str], install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    write_package(tmp_path / "one", "one", STAGE, stages="drift = ext:DRIFT")
    install(tmp_path / "one")
    assert compile_text(f"stages={written}").codes == codes


def test_a_stage_of_a_package_that_cannot_be_used(
    install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    wrong = {"stages": {"drift": {**STAGE["stages"]["drift"], "needs": ["weights"]}}}
    write_package(tmp_path / "one", "one", wrong, stages="drift = ext:DRIFT")
    install(tmp_path / "one")
    assert compile_text("stages={drift: {of: decoder}}").codes == ["E553"]
    other = {"stages": {"drift": {**STAGE["stages"]["drift"], "tasks": ["translation"]}}}
    (tmp_path / "one" / "ext.schema.json").write_text(json.dumps(other))
    install(tmp_path / "one")
    assert compile_text("stages={drift: {of: decoder}}").codes == ["E555"]


# --- keys and lock -----------------------------------------------------------------------------------


def test_who_depends_on_what(focal: Path, compile_text: Callable[..., Any]) -> None:
    found = compile_text(FOCAL, PLBART, SCORED)
    used = {stage["id"]: set(stage["settings"].get("extensions", {})) for stage in found.plan["stages"]}
    family = {"families.plbart"}
    assert used == {
        "tokenizer": set(), "teacher": family, "data": set(), "teacher-train": family, "student": family,
        "train": {*family, "terms.focal"}, "evaluate-teacher": {*family, "metrics.length_error"},
        "evaluate-student": {*family, "metrics.length_error"}, "benchmark-teacher": family,
        "benchmark-student": family,
    }  # fmt: skip
    record = found.stage("train")["settings"]["extensions"]["terms.focal"]
    assert (record["distribution"], record["version"], len(record["sha256"])) == ("distilc-focal", "0.1.0", 64)
    assert found.stage("tokenizer")["settings"]["family"] == "bart"  # its sequences are laid out so
    assert (found.plan["teacher"]["family"], found.plan["student"]["family"]) == ("plbart", "plbart")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (FOCAL, {"train", "convert-train", "evaluate-student", "benchmark-student"}),
        (SCORED, {"evaluate-teacher", "evaluate-student"}),
        (PLBART, {"teacher", "teacher-train", "student", "train", "evaluate-teacher", "evaluate-student",
                  "benchmark-teacher", "benchmark-student"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["focal.py", "focal.schema.json", "__init__.py"])
def test_other_sources_are_another_key(
    override: str,
    expected: set[str],
    file: str,
    focal: Path,
    install: Callable[[Path], None],
    compile_text: Callable[..., Any],
) -> None:
    before = keys(compile_text(override))
    shutil.copytree(focal / "distilc_focal", focal / "distilc_focal" / "__pycache__")  # compiled files do not count
    install(focal)
    assert keys(compile_text(override)) == before
    source = focal / "distilc_focal" / file
    source.write_text(source.read_text("utf-8") + "\n", "utf-8")
    install(focal)
    assert changed(before, keys(compile_text(override))) == expected


def test_another_version_is_another_key(
    focal: Path, install: Callable[[Path], None], compile_text: Callable[..., Any]
) -> None:
    before = keys(compile_text(FOCAL))
    metadata = focal / "distilc_focal-0.1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text("utf-8").replace("Version: 0.1.0", "Version: 0.2.0"), "utf-8")
    install(focal)
    expected = {"train", "convert-train", "evaluate-student", "benchmark-student"}
    assert changed(before, keys(compile_text(FOCAL))) == expected


def test_an_editable_install_is_the_same_as_an_installed_one(
    focal: Path, install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    """Its RECORD has no sources: they lie where its .pth file says."""
    before = keys(compile_text(FOCAL))
    editable = tmp_path / "editable"
    shutil.copytree(focal / "distilc_focal-0.1.0.dist-info", editable / "distilc_focal-0.1.0.dist-info")
    (editable / "distilc_focal-0.1.0.dist-info" / "RECORD").write_text("__editable__.distilc_focal-0.1.0.pth,,\n")
    shutil.rmtree(focal)
    install(ROOT / "tests" / "extension_package")  # what the .pth does
    install(editable)
    assert keys(compile_text(FOCAL)) == before


@pytest.mark.slow
def test_the_lock_names_it_and_notices_when_it_moves(focal: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    text = (ROOT / "specs" / "recipes" / "sft.yaml").read_text("utf-8")
    spec.write_text(text + "\nloss: {labels: 0.5, focal: 0.5}\n", "utf-8")

    def distilc(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(focal), "XDG_CONFIG_HOME": str(tmp_path), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "distilc.compiler", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert distilc("check", "spec.yaml").stdout == "spec.yaml: ok\n"
    written = distilc("compile", "spec.yaml", "-o", "plans")
    assert written.returncode == 0, written.stderr
    (lock,) = tmp_path.glob("plans/*/lock.yaml")
    assert "extensions:\n  terms.focal:\n    distribution: distilc-focal\n" in lock.read_text("utf-8")
    assert "term focal: of distilc-focal 0.1.0 (" in distilc("explain", "spec.yaml").stdout
    run = json.loads(distilc("explain", "--json", "spec.yaml").stdout)["runs"][0]
    assert run["extensions"]["terms.focal"]["version"] == "0.1.0"
    assert distilc("compile", "--locked", "spec.yaml", "-o", "plans").returncode == 0
    module = focal / "distilc_focal" / "focal.py"
    module.write_text(module.read_text("utf-8").replace("-1e-12", "-1e-9"), "utf-8")
    moved = distilc("compile", "--locked", "spec.yaml", "-o", "plans")
    assert moved.returncode == 1
    assert "E518: extensions.terms.focal.sha256 was " in moved.stderr


# --- families ----------------------------------------------------------------------------------------


def test_the_parameters_of_a_family_are_counted_by_its_layout(focal: Path) -> None:
    bart = {**PLBART_CONFIG, "model_type": "bart", "vocab_size": 50005}
    own = architecture_of(PLBART_CONFIG)  # vocab_size is the family's default
    assert (own.family, own.layout, own.vocab_size) == ("plbart", "bart", 50005)
    assert own.parameters == architecture_of(bart).parameters
    assert architecture_of({"model_type": "plbart"}).encoder_layers == 6


def test_the_parameters_are_those_that_transformers_builds(focal: Path) -> None:
    import torch
    from transformers import PLBartConfig, PLBartForConditionalGeneration

    shape = {name: value for name, value in PLBART_CONFIG.items() if name != "model_type"}
    for changes in ({}, {"decoder_layers": 2, "decoder_ffn_dim": 8}):
        with torch.device("meta"):
            model = PLBartForConditionalGeneration(PLBartConfig(**{**shape, **changes}))
        count = sum(parameter.numel() for parameter in model.parameters())
        assert architecture_of({**PLBART_CONFIG, **changes}).parameters == count


def test_a_family_laid_out_as_t5(install: Callable[[Path], None], tmp_path: Path) -> None:
    family = {"description": "mT5.", "tasks": ["summarization"], "layout": "t5", "defaults": {"vocab_size": 250112}}
    write_package(tmp_path / "one", "one", {"families": {"mt5": family}}, families="mt5 = ext:MT5")
    install(tmp_path / "one")
    shape = {"d_model": 16, "d_kv": 6, "d_ff": 32, "num_layers": 3, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    own = architecture_of({"model_type": "mt5", **shape, "tie_word_embeddings": False})
    t5 = architecture_of({"model_type": "t5", **shape, "vocab_size": 250112, "tie_word_embeddings": False})
    assert (own.parameters, own.gated, own.head_dim, own.tied) == (t5.parameters, True, 6, False)
    assert own.shrunk(encoder_layers=3, decoder_layers=1, d_model=16, heads=None, ffn_dim=None).head_dim == 6


def test_a_model_of_a_family_whose_package_is_broken(
    install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(PLBART_CONFIG))
    assert compile_text("teacher={path: ./model}").codes == ["E503"]
    write_package(tmp_path / "one", "one", "[]", families="plbart = ext:PLBART")
    install(tmp_path / "one")
    assert compile_text("teacher={path: ./model}").codes == ["E553"]


# --- never imported, never a traceback ---------------------------------------------------------------


def test_nothing_is_imported(install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path) -> None:
    """`ext.py` ends the process when it is imported."""
    metric = {"description": "M.", "tasks": ["summarization"], "needs": "texts", "higher_is_better": True}
    write_package(tmp_path / "one", "one", {"metrics": {"brevity": metric}}, metrics="brevity = ext:BREVITY")
    install(tmp_path / "one")
    found = compile_text("evaluation.metrics=[brevity]")
    assert found.codes == []
    assert "metrics.brevity" in found.stage("evaluate-student")["settings"]["extensions"]
    assert "ext" not in sys.modules


PIECES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=False) | st.text(max_size=6)
    | st.sampled_from(["number", "integer", "weight", "teacher", "bart", "summarization", "texts"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["description", "tasks", "needs", "properties", "weight", "type", "default", "items", "enum",
                         "minimum", "layout", "defaults", "higher_is_better", "examples", "$ref", "pattern"]),
        inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(term=PIECES, metric=PIECES, family=PIECES)
def test_no_fragment_makes_a_traceback(
    term: Any,
    metric: Any,
    family: Any,
    install: Callable[[Path], None],
    compile_text: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("fragment")
    base = {"description": "X.", "tasks": ["summarization"]}
    weight = {"description": "W.", "type": "number", "minimum": 0}
    fragment = {
        "terms": {"focal": {**base, "needs": [], "properties": {"weight": weight, "gamma": term}}, "other": term},
        "metrics": {"brevity": metric},
        "families": {"plbart": family},
    }
    write_package(folder, "one", fragment, terms="focal = ext:A\nother = ext:B", metrics="brevity = ext:C",
                  families="plbart = ext:D")  # fmt: skip
    install(folder)
    try:
        found = compile_text("loss={labels: 1, focal: 0.5, other: 0.5}", "evaluation.metrics=[brevity]", PLBART)
    finally:
        sys.path[:] = [place for place in sys.path if place != str(folder)]
    allowed = {"E553", "E203", "E202", "E402", "E555"}
    assert {code for code in found.codes if code.startswith("E")} <= allowed, found.diagnostics


def test_a_labeller_laid_out_as_pegasus_does_not_write_in_fp16(
    install: Callable[[Path], None], compile_text: Callable[..., Any], tmp_path: Path
) -> None:
    """Its weights overflow as those of the family that it is laid out as do."""
    family = {"description": "A Pegasus.", "tasks": ["summarization"], "layout": "pegasus", "defaults": {}}
    write_package(tmp_path / "one", "one", {"families": {"pegasus_like": family}}, families="pegasus_like = ext:P")
    install(tmp_path / "one")
    (tmp_path / "peg").mkdir()
    config = {**PLBART_CONFIG, "model_type": "pegasus_like", "vocab_size": 500, "max_position_embeddings": 512}
    (tmp_path / "peg" / "config.json").write_text(json.dumps(config))
    (tmp_path / "peg" / "model.safetensors").write_bytes(b"weights")
    gpu = {"device": "cuda", "device_name": "NVIDIA H200", "memory_gb": 141.0}
    found = compile_text("precision=fp16", "pseudo_labels={peg: {by: {path: ./peg}}}", "targets=[peg]", **gpu)
    assert found.plan is not None, found.diagnostics
    assert found.plan["stages"] and found.stage("labels-peg")["settings"]["precision"] == "fp32"
    assert found.stage("train")["settings"]["precision"] == "fp16"
    refused = compile_text("precision=fp16", "teacher={path: ./peg}", **gpu)
    assert "E511" in refused.codes
