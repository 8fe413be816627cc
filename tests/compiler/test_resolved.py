"""The resolved spec of a run is a spec, alone and complete, which compiles to the same keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from spec_texts import SMALL as SPEC
from spec_texts import shipped_paths

from distilc.compiler.pipeline import Compiled, compile_spec, lower_runs
from distilc.compiler.resolve.site import Site, SiteOptions, load_site
from distilc.compiler.spec.resolved import OF_SEVERAL_RUNS, completed_tree, resolved_yaml, without_locations
from distilc.compiler.spec.structure import load_schema

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
SPECS = sorted(file for file in (ROOT / "specs").rglob("*.yaml") if "base" not in file.parent.parts)
SWEEP = """
variants:
  sft: {}
  kd: {loss: {logits: {weight: 0.8, temperature: 2, divergence: jsd}, hidden: {decoder: 3}}}
  pl: {pseudo_labels: {own: {by: teacher}}, targets: [own], seeds: [1, 2]}
matrix: {student.decoder_layers: [1, 3], training.dropout: [inherit, 0.1], exclude: [{student.decoder_layers: 1, training.dropout: 0.1}]}
expect: {teacher: {rouge2: 22.29}, kd: {rouge2: 21.6, within: 0.4}, pl: {rouge2: 22}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """This machine, offline, with the shared models where they are."""
    models = (SHARED / "models",) if SHARED.is_dir() else ()
    workspace = tmp_path_factory.mktemp("workspace")
    paths = shipped_paths(workspace, SHARED / "data")
    loaded = load_site(SiteOptions(offline=True, models=models, paths=paths, workspace=workspace)).site
    assert loaded is not None
    return loaded


def keys_of(compiled: Compiled, site: Site) -> dict[str, dict[str, str]]:
    """Run -> stage -> key."""
    assert not compiled.failed, compiled.diagnostics
    plans, after = lower_runs(compiled, site, fingerprints=True)
    assert not after.failed, after.diagnostics
    # What is kept of a teacher depends on what the runs of a command share; it is in no key of theirs.
    return {
        plan.name: {id: stage.key for id, stage in plan.stages.items() if stage.kind != "signals"}
        for plan in plans
    }


def round_trip(spec: Path, overrides: tuple[str, ...], site: Site, folder: Path, most: int | None = None) -> int:
    """Every run alone is the same run; returns how many runs there are."""
    compiled = compile_spec(spec, overrides, site)
    keys = keys_of(compiled, site)
    assert len(keys) == len(compiled.runs)
    folder.mkdir(exist_ok=True)
    step = 1 if most is None else max(1, len(compiled.runs) // most)
    for run in compiled.runs[::step]:
        text = resolved_yaml(run)
        alone = folder / "resolved.yaml"
        alone.write_text(text, "utf-8")
        again = compile_spec(alone, (), site)
        assert len(again.runs) == 1, again.diagnostics
        (found,) = keys_of(again, site).values()
        assert found == keys[run.experiment.name]
        tree = YAML(typ="safe", pure=True).load(text)
        assert not set(tree) & set(OF_SEVERAL_RUNS)
        assert (tree["name"], tree["seeds"]) == (run.experiment.name, [run.experiment.seed])
        (same,) = again.runs
        assert resolved_yaml(same) == text
        assert same.experiment.expect == run.experiment.expect
        assert same.experiment.tracking == run.experiment.tracking
    return len(compiled.runs)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models and data are not there")
@pytest.mark.parametrize("spec", SPECS, ids=[str(spec.relative_to(ROOT / "specs")) for spec in SPECS])
def test_shipped_specs(spec: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    _, looked = lower_runs(compile_spec(spec, (), site), site, fingerprints=False)
    if any(found.code == "E508" for found in looked.diagnostics):
        pytest.skip("its data are the user's own files")
    assert round_trip(spec, (), site, tmp_path, most=6) >= 1


def test_variants_matrix_and_seeds(site: Site, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SPEC, "utf-8")
    (tmp_path / "spec.yaml").write_text(f"extends: base.yaml\n{SWEEP}", "utf-8")
    number = round_trip(tmp_path / "spec.yaml", ("stopping.max_epochs=3",), site, tmp_path / "elsewhere")
    assert number == 3 + 3 + 6


def test_a_name_that_is_too_long_for_a_spec(site: Site, tmp_path: Path) -> None:
    variants = ", ".join(f"{'v' * 60}{i}: {{seeds: [1, 2]}}" for i in range(2))
    text = SPEC.replace("name: small", f"name: {'n' * 60}")
    (tmp_path / "spec.yaml").write_text(f"{text}variants: {{{variants}}}\n", "utf-8")
    compiled = compile_spec(tmp_path / "spec.yaml", (), site)
    names = set()
    for run in compiled.runs:
        (tmp_path / "resolved.yaml").write_text(resolved_yaml(run), "utf-8")
        (again,) = compile_spec(tmp_path / "resolved.yaml", (), site).runs
        names.add(again.experiment.name)
    assert len(names) == 4 and all(len(name) == 100 for name in names)


OVERRIDES = st.lists(
    st.sampled_from(
        [
            "loss={logits: {weight: 0.8, temperature: 2, divergence: jsd}}",
            "loss={labels: 0.5, logits: {weight: 1, temperature: 1, divergence: skew-kl}}",
            "loss.hidden={decoder: 3}", "loss.labels=null", "loss.attention={decoder_self: 1}", "loss.cosine=1",
            "student.decoder_layers=3", "student.encoder_layers=2", "student={d_model: 32, heads: 2, ffn_dim: 64, "
            "init: {embeddings: random, encoder: random, decoder: random}}", "student.freeze=none",
            "student.init.decoder.layers=[0, 5]", "phi.decoder=copied-from", "phi.decoder=[3, 5]",
            "training.dropout=0.2", "training.warmup={ratio: 0.1}", "training.gradient_clipping=null",
            "training.optimizer={name: adafactor}", "batch={tokens: 512}", "precision=fp32",
            "stopping={max_steps: 100, max_epochs: null}", "stopping.patience=3", "validation.every={steps: 50}",
            "validation.metrics=[loss, rouge2]", "evaluation.speed=null", "evaluation.limit=10",
            "evaluation.metrics=[rouge1]", "evaluation.generation.beams=4", "teacher.seed=7", "seeds=[3]",
            "teacher.train.loss.labels=2", "teacher.train.stopping.max_epochs=2", "data.train.limit=50",
            "data.test={a: {builtin: bulletins, limit: 5}, b: {builtin: bulletins, split: validation}}",
            "tracking={experiment: mine, tags: {team: 'nlp', '12e4567': 'yes'}}", "data.prefix='summarize: '",
            "data.columns={source: source}", "pseudo_labels={own: {by: teacher, keep: {min_rouge2: 10}}}",
            "targets=[original, own]",
        ]
    ),
    max_size=6,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=OVERRIDES)
def test_generated_specs(overrides: list[str], site: Site, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC, "utf-8")
    compiled = compile_spec(spec, tuple(overrides), site)
    if not compiled.failed:
        compiled = lower_runs(compiled, site, fingerprints=True)[1]
    if compiled.failed:
        return  # not every combination is a spec; test_some_are_specs counts those that are
    assert round_trip(spec, tuple(overrides), site, tmp_path) == 1


@pytest.mark.slow
def test_each_of_the_generated_overrides_is_used(site: Site, tmp_path: Path) -> None:
    """Alone, or with what it needs, every one of them makes a spec that is right."""
    needs = {"targets": "pseudo_labels={own: {by: teacher}}", "pseudo_labels": "targets=[own]",
             "loss.labels=null": "loss.logits={weight: 1}", "phi.decoder": "loss.hidden={decoder: 3}"}  # fmt: skip
    (tmp_path / "spec.yaml").write_text(SPEC, "utf-8")
    for override in OVERRIDES.wrapped_strategy.element_strategy.elements:  # type: ignore[attr-defined]
        more = tuple(value for start, value in needs.items() if override.startswith(start))
        round_trip(tmp_path / "spec.yaml", (*more, override), site, tmp_path / "elsewhere")


def test_everything_is_filled_in(site: Site, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC + "loss: {logits: {weight: 1, divergence: jsd}}\n", "utf-8")
    (run,) = compile_spec(tmp_path / "spec.yaml", (), site).runs
    tree = YAML(typ="safe", pure=True).load(resolved_yaml(run))
    assert tree["evaluation"]["metrics"] == ["rouge1", "rouge2", "rougeLsum"]
    assert tree["stopping"]["monitor"] == tree["teacher"]["train"]["stopping"]["monitor"] == "loss"
    assert tree["loss"]["logits"]["beta"] == 0.5
    assert tree["data"]["columns"] == {"source": "source", "target": "target"}
    assert tree["tracking"]["experiment"] == "small"
    order = list(load_schema("experiment").root["properties"])
    assert list(tree) == sorted(tree, key=order.index)


def test_a_tree_of_an_older_plan_is_completed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, "utf-8")
    (run,) = compile_spec(tmp_path / "spec.yaml", (), site).runs
    older = {key: value for key, value in run.tree.items() if key not in ("targets", "phi")}
    assert completed_tree(older) == completed_tree(run.tree)
    strange: dict[str, Any] = {**run.tree, "learning": {"rate": 3}}
    assert completed_tree(strange) == strange


def test_places_are_left_out() -> None:
    tree = {
        "teacher": {"path": "/here/model"},
        "student": {"init": {"decoder": {"from": {"path": "/here/other"}, "layers": "spaced"}}},
        "data": {"train": [{"files": ["/here/a.jsonl"], "limit": 3}]},
        "pseudo_labels": {"dump": {"file": "/here/l.jsonl", "columns": {"id": "id"}}},
        "tracking": {"tags": {"path": "kept", "files": "kept"}},
    }
    assert without_locations(tree) == {
        "teacher": {},
        "student": {"init": {"decoder": {"from": {}, "layers": "spaced"}}},
        "data": {"train": [{"limit": 3}]},
        "pseudo_labels": {"dump": {"columns": {"id": "id"}}},
        "tracking": {"tags": {"path": "kept", "files": "kept"}},
    }
