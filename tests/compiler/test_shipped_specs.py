"""What is said about the shipped specs is so: their first lines, their commands, the tables of their pages;
and DistilBART-MNLI and DistilBERT are the published ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from distilc.compiler.cli import distilc
from distilc.runtime.plan.load import load_plan

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))
BASES = [spec for spec in SPECS if spec.parent.name == "base"]
README = (ROOT / "specs" / "README.md").read_text("utf-8")
PAPER = (ROOT / "specs" / "paper" / "README.md").read_text("utf-8")
SHARED = ROOT.parent / "shared"
TABLES = SHARED / "paper-tables.yaml"
COMMAND = re.compile(r"distilc run (specs/\S+\.yaml)(?: --only (\S+?))?(?=[\s`]|$)")

needs_shared = pytest.mark.skipif(not TABLES.is_file(), reason=f"the published tables are not there: {TABLES}")


def variants(spec: Path) -> list[str]:
    """The names of its variants; a base holds none."""
    return list(YAML(typ="safe").load(spec.read_text("utf-8")).get("variants", {}))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- first lines and commands ----------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_each_spec_names_the_schema_for_editors(spec: Path) -> None:
    first = spec.read_text("utf-8").split("\n")[0]
    where = first.removeprefix("# yaml-language-server: $schema=")
    assert where != first and (spec.parent / where).resolve() == ROOT / "schema" / "experiment.schema.json"


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_each_spec_opens_with_its_exact_command(spec: Path) -> None:
    text = spec.read_text("utf-8")
    opening = "\n".join(line for line in re.split(r"^[^#]", text, maxsplit=1, flags=re.MULTILINE)[0].split("\n"))
    if spec in BASES:
        assert "No whole spec" in opening and "variants" not in YAML(typ="safe").load(text)
        return
    if spec.parent.name == "recipes":
        assert "distilc run spec.yaml" in opening
        return
    commands = COMMAND.findall(opening)
    assert commands and {file for file, _ in commands} == {named(spec)}
    for _, variant in commands:
        assert variant == "" or variant in variants(spec)


def test_the_readme_names_every_spec() -> None:
    names = set(re.findall(r"^\| `([\w/.-]+)` \|", README, re.MULTILINE))
    for spec in SPECS:
        name = spec.relative_to(ROOT / "specs")
        assert {name.as_posix(), f"{name.parts[0]}/"} & names, name
    for name in names:
        assert (ROOT / "specs" / name).exists(), name


# --- the table of the paper ------------------------------------------------------------------------


def readme_rows() -> list[tuple[int, str, list[str], Path, str]]:
    """(table, row, printed numbers, spec, variant) of every row of the page's tables of the paper."""
    found = []
    for section in re.split(r"^## ", PAPER, flags=re.MULTILINE)[1:]:
        number = re.match(r"Table (\d+)", section)
        assert number is not None, section[:40]
        for line in section.split("\n"):
            if (command := COMMAND.search(line)) is not None:
                _, row, numbers, _, _ = (cell.strip() for cell in line.split("|"))
                found.append((int(number[1]), row, numbers.split(", "), ROOT / command[1], command[2]))
    return found


def test_every_file_and_variant_of_the_readme_exists() -> None:
    rows = readme_rows()
    assert len(rows) == 63 and {table for table, *_ in rows} == {5, 6, 7, 8, 9, 10}
    for table, row, _, spec, variant in rows:
        assert spec.is_file() and variant in variants(spec), (table, row)


def test_the_readme_names_every_variant_of_the_paper() -> None:
    shown = {(spec, variant) for _, _, _, spec, variant in readme_rows()}
    there = {(spec, name) for spec in SPECS if spec.parent.name == "paper" for name in variants(spec)}
    assert shown == there


@needs_shared
def test_the_readme_prints_the_numbers_of_the_tables() -> None:
    """Row by row, in the order of the tables."""
    tables = YAML(typ="safe").load(TABLES.read_text("utf-8"))["paper"]
    printed: dict[int, list[list[float]]] = {table: [] for table in range(5, 11)}
    for row in tables["table_5_main_results"]["rows"]:
        printed[5] += [[row[how]["score"], row[how]["cost"]] for how in ("sft", "kd", "pl") if row[how]]
    for table, name in ((6, "table_6_best_xsum"), (7, "table_7_best_cnn")):
        rows = [row for row in tables[name]["rows"] if not row.get("baseline")]
        printed[table] = [[row["rouge2"], row["speedup"]] for row in rows]
    for table, name in ((8, "table_8_init_xsum"), (9, "table_9_init_other")):
        printed[table] = [[row["min_loss"]] for row in tables[name]["rows"]]
    for row in tables["table_10_pl_strategies"]["rows"]:
        mixes = (row[mix] for mix in ("orig", "pl", "orig_pl", "orig_pl_pl"))
        printed[10] += [[difference] for difference in mixes if difference is not None]
    for table in printed:
        shown = [[float(number) for number in numbers] for at, _, numbers, _, _ in readme_rows() if at == table]
        assert shown == printed[table], table


@needs_shared
def test_the_readme_calls_the_rows_as_the_tables_do() -> None:
    tables = YAML(typ="safe").load(TABLES.read_text("utf-8"))["paper"]
    shown = {table: [row for at, row, *_ in readme_rows() if at == table] for table in range(5, 11)}
    for table, name in ((6, "table_6_best_xsum"), (7, "table_7_best_cnn")):
        rows = [row for row in tables[name]["rows"] if not row.get("baseline")]
        for mine, row in zip(shown[table], rows, strict=True):
            assert mine.startswith(f"{row['teacher']} {row['student']}: {row['method'].split()[0]}")
    assert shown[8] == [row["name"] for row in tables["table_8_init_xsum"]["rows"]]
    for mine, row in zip(shown[9], tables["table_9_init_other"]["rows"], strict=True):
        assert mine.startswith(row["teacher"]) and mine.endswith(f", {row['dataset']}: {row['name']}")
    for table, name in ((5, "table_5_main_results"), (10, "table_10_pl_strategies")):
        rows = [f"{row['teacher']} {row['size']}, {row['dataset']}" for row in tables[name]["rows"]]
        assert list(dict.fromkeys(row.split(":")[0] for row in shown[table])) == rows


# --- DistilBART-MNLI and DistilBERT ----------------------------------------------------------------


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """The plans of a spec by variant, compiled offline by the command that users type."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)

    def compile_spec(name: str) -> dict[str, Any]:
        result = CliRunner().invoke(
            distilc, ["compile", str(ROOT / "specs" / name), "-o", str(tmp_path / "plans"), "--offline",
                      "--workspace", str(tmp_path / "workspace"), "--models", str(SHARED / "models")]
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found = [json.loads(plan.read_text("utf-8")) for plan in (tmp_path / "plans").rglob("plan.json")]
        return {plan["variant"]: plan for plan in found}

    return compile_spec


def settings(plan: Any, id: str) -> Any:
    return next(stage["settings"] for stage in plan["stages"] if stage["id"] == id)


@needs_shared
def test_distilbart_mnli_is_the_published_one(plans: Callable[[str], dict[str, Any]]) -> None:
    teacher, *rows = YAML(typ="safe").load(TABLES.read_text("utf-8"))["mnli"]["rows"]
    found = plans("nli/distilbart-mnli.yaml")
    assert {plan["name"] for plan in found.values()} == {row["model"] for row in rows}
    copies = {1: [0], 3: [0, 6, 11], 6: [0, 2, 4, 7, 9, 11], 9: [0, 1, 2, 4, 5, 7, 9, 10, 11]}
    for row in rows:
        plan = found[row["size"]]
        for who, scores in (("teacher", teacher), ("student", row)):
            assert plan["expect"][who]["scores"] == {
                "matched.accuracy": scores["matched"],
                "mismatched.accuracy": scores["mismatched"],
            }
        assert plan["copy"] == {"encoder": list(range(12)), "decoder": copies[plan["student"]["decoder_layers"]]}
        train, data = settings(plan, "train"), settings(plan, "data")
        assert data["labels"] == ["contradiction", "neutral", "entailment"] and data["max_source_tokens"] == 128
        assert {name: sources[0]["split"] for name, sources in data["test"].items()} == {
            "matched": "validation_matched",
            "mismatched": "validation_mismatched",
        }
        assert (train["batch"]["size"], train["learning_rate"], train["warmup_steps"]) == (128, 3e-5, 500)
        assert train["optimizer"] == {"name": "adamw", "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.01}
        assert train["stopping"]["max_epochs"] == 2 and train["validation"]["every_steps"] == 1500
        assert train["freeze"] == ["encoder", "embeddings", "positions"]


@needs_shared
def test_distilbert_is_the_published_one(plans: Callable[[str], dict[str, Any]]) -> None:
    tables = YAML(typ="safe").load(TABLES.read_text("utf-8"))["distilbert"]
    scores = {row["model"]: row["values"][0] for row in tables["table_1_glue_dev"]["rows"]}
    sizes = {row["model"]: row["params_m"] for row in tables["table_3_speed"]["rows"]}
    found = plans("distilbert/distilbert-base.yaml")
    full = found["full"]
    for who, model in (("teacher", "BERT-base"), ("student", "DistilBERT")):
        assert full["expect"][who]["scores"] == {"glue": scores[model], "million_parameters": sizes[model]}
    head = 768 * 768 + 768 + 2 * 768 + 30522  # predicts the masked tokens; the printed size leaves it out
    assert round((full["student"]["parameters"] - head) / 1e6) == sizes["DistilBERT"]
    assert round(full["teacher"]["parameters"] / 1e6) == sizes["BERT-base"]
    assert full["student"]["family"] == "distilbert" and full["copy"]["encoder"] == [0, 2, 4, 7, 9, 11]

    train = settings(full, "train")
    objective = train["objective"]
    assert (objective["logits"]["weight"], objective["labels"]["weight"], objective["cosine"]) == (5.0, 2.0, 1.0)
    assert (objective["logits"]["temperature"], objective["logits"]["positions"]) == (2.0, "all")
    assert train["masking"] == {"share": 15.0, "masked": 80.0, "random": 10.0, "rare": 0.7}
    assert (train["batch"]["size"], train["learning_rate"], train["warmup_ratio"]) == (4000, 5e-4, 0.05)
    assert train["optimizer"] == {"name": "adamw", "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.0}
    assert (train["gradient_clipping"], train["stopping"]["max_epochs"], full["seed"]) == (5.0, 3, 56)

    ablation = {
        "drop L_ce (keep cos, mlm)": ("no-logits", {"labels", "cosine"}),
        "drop L_cos (keep ce, mlm)": ("no-cosine", {"labels", "logits"}),
        "drop L_mlm (keep ce, cos)": ("no-labels", {"logits", "cosine"}),
        "triple loss, random init": ("random-init", {"labels", "logits", "cosine"}),
    }
    assert set(found) == {"full", *(variant for variant, _ in ablation.values())}
    for row in tables["table_4_ablation"]["rows"]:
        variant, terms = ablation[row["ablation"]]
        plan = found[variant]
        assert plan["expect"]["student"]["scores"] == {"glue": round(scores["DistilBERT"] + row["delta"], 2)}
        on = {name for name, term in settings(plan, "train")["objective"].items() if term is not None}
        assert on & {"labels", "logits", "cosine", "hidden", "attention", "embedding"} == terms
        drawn = settings(plan, "student")
        assert (drawn["embeddings"], plan["copy"]["encoder"]) == (
            ("random", None) if variant == "random-init" else ("teacher", [0, 2, 4, 7, 9, 11])
        )


# --- their plans -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_runtime_makes_the_keys_that_the_compiler_made(tmp_path: Path) -> None:
    """Both halves have a function for it, and neither knows the other's."""
    num_plans = 0
    for spec in SPECS:
        if spec in BASES:
            continue
        out = tmp_path / named(spec)
        options = ["--offline", "--workspace", str(tmp_path / "workspace"), "-o", str(out)]
        options += ["--models", str(SHARED / "models")] if (SHARED / "models").is_dir() else []
        if CliRunner().invoke(distilc, ["compile", *options, str(spec)]).exit_code == 0:
            num_plans += len([load_plan(folder) for folder in out.iterdir()])
    assert num_plans >= 7  # quickstart and four recipes with all that they need; many more where models are
