"""`distilc init`: each starter spec, with data of the right kind beside it, is right in every respect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from distilc.compiler.cli import distilc
from distilc.compiler.commands.init import RECIPES, SPECS

MODELS = Path(__file__).parents[2].parent / "shared" / "models"

# A row of the data that each recipe asks for; the others bring their own.
ROWS = {
    "translation": {"en": "A cat.", "de": "Eine Katze."},
    "nli": {"premise": "A cat sleeps.", "hypothesis": "It is awake.", "label": "contradiction"},
    "distilbert": {"text": "A paragraph about a cat."},
}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`compiled(recipe)`: written, its data put beside it, checked with the data, and compiled. Offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(distilc, [*arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def compile_it(recipe: str) -> list[Any]:
        run("init", "--recipe", recipe, "mine.yaml")
        for split in ("train", "validation", "test") if recipe in ROWS else ():
            # a test set that is its training set would be warned of, and so would a row that comes twice
            row = {name: text if name == "label" else f"{split}: {text}" for name, text in ROWS[recipe].items()}
            Path(f"{split}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
        offline = ["--offline", *(["--models", str(MODELS)] if MODELS.is_dir() else [])]
        found = json.loads(run("check", "--data", "--format", "json", *offline, "mine.yaml"))["diagnostics"]
        # Of those models there are no weights here.
        expected = {"nli": ["W575"], "distilbert": ["W575"]}
        assert [d["code"] for d in found] == expected.get(recipe, [])
        run("compile", "mine.yaml", "-o", "plans", *offline)
        return [json.loads(plan.read_text("utf-8")) for plan in sorted(Path("plans").rglob("plan.json"))]

    return compile_it


def test_every_recipe_is_offered() -> None:
    assert {file.stem for file in SPECS.glob("*.yaml")} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_checks_clean_with_its_data_and_compiles(recipe: str, compiled: Any) -> None:
    if recipe in ("nli", "distilbert") and not MODELS.is_dir():
        pytest.skip(f"its teacher is not there: {MODELS}")
    plans = compiled(recipe)
    written = YAML(typ="safe").load(Path("mine.yaml").read_text("utf-8"))
    assert {plan["variant"] for plan in plans} == set(written.get("variants", {None: {}}))


def test_kd_is_compared_with_sft(compiled: Any) -> None:
    def terms(plan: Any) -> set[str]:
        (train,) = [stage["settings"] for stage in plan["stages"] if stage["id"] == "train"]
        return {name for name, term in train["objective"].items() if term and name != "phi"}

    found = {plan["variant"]: terms(plan) for plan in compiled("kd")}
    assert found == {"kd": {"labels", "logits", "hidden"}, "sft": {"labels"}}


def test_pseudo_labels_are_compared_with_the_original_targets(compiled: Any) -> None:
    def labels(plan: Any) -> list[str]:
        return [stage["id"] for stage in plan["stages"] if stage["kind"] == "pseudo-labels"]

    found = {plan["variant"]: labels(plan) for plan in compiled("pseudo-labels")}
    kept = ["written-own", "labels-own"]  # the rule is held to in a stage of its own
    assert found == {"original": [], "labels": kept, "both": kept}
