"""specs/paper against the paper: every row of Tables 5 to 10 has one run, the run is that row's, and every
published number is the printed one. The tables are data of their own (`paper-tables.yaml`); nothing here knows
a file or a variant by name: a row is looked up by what it says (teacher, data, size, technique)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from distilc.compiler.cli import distilc

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs" / "paper").glob("*.yaml"))
SHARED = ROOT.parent / "shared"
TABLES = SHARED / "paper-tables.yaml"
MODELS = SHARED / "models"

pytestmark = pytest.mark.skipif(not TABLES.is_file(), reason=f"the published tables are not there: {TABLES}")

TEACHERS = {
    ("BART", "XSUM"): "facebook/bart-large-xsum",
    ("BART", "CNN"): "facebook/bart-large-cnn",
    ("Pegasus", "XSUM"): "google/pegasus-xsum",
    ("Pegasus", "CNN"): "google/pegasus-cnn_dailymail",
    ("Marian", "EN-RO"): "Helsinki-NLP/opus-mt-en-ro",
    ("mBART", "EN-RO"): "facebook/mbart-large-en-ro",
}
DATA = {"EdinburghNLP/xsum": "XSUM", "abisee/cnn_dailymail": "CNN", "wmt/wmt16": "EN-RO"}
SCORE = {"XSUM": "rouge2", "CNN": "rouge2", "EN-RO": "bleu"}

# teacher depth, student depth -> copied layers, and φ (section 3.1 of the paper and its code)
COPIES = {
    (12, 1): [0],
    (12, 3): [0, 6, 11],
    (12, 6): [0, 2, 4, 7, 9, 11],
    (12, 9): [0, 1, 2, 4, 5, 7, 9, 10, 11],
    (16, 4): [0, 5, 10, 15],
    (16, 8): [0, 2, 4, 6, 8, 10, 12, 15],
    (6, 3): [0, 2, 5],
    **{(depth, depth): list(range(depth)) for depth in (6, 12, 16)},
}
PHI = {
    (12, 3): [3, 7, 11],
    (12, 6): [1, 3, 5, 8, 10, 11],
    (16, 4): [4, 9, 12, 15],
    (6, 3): [1, 4, 5],
    (12, 9): [1, 2, 3, 5, 6, 7, 9, 10, 11],  # in no table: ceil((i + 1) 12 / 9) - 1
}


@dataclass(frozen=True)
class Row:
    """One run of a table: what identifies it, and what is printed of student and teacher."""

    table: int
    teacher: str
    data: str
    size: str
    technique: str  # sft, kd, pl, orig_pl, orig_pl_pl, or init:NAME
    short: bool = False  # the 2 epochs of Table 10
    student_scores: Mapping[str, float] = field(default_factory=dict)
    teacher_scores: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    origin: str | None = None

    def __str__(self) -> str:
        return f"table {self.table}: {self.teacher} {self.size} {self.data} {self.technique}"


def read_rows() -> Iterator[Row]:
    tables = YAML(typ="safe").load(TABLES.read_text("utf-8"))["paper"]
    for row in tables["table_5_main_results"]["rows"]:
        score = SCORE[row["dataset"]]
        for technique in ("sft", "kd", "pl"):
            if (cell := row[technique]) is not None:
                yield Row(
                    5, row["teacher"], row["dataset"], row["size"], technique,
                    student_scores={score: cell["score"], "gpu_hours": cell["cost"]},
                    teacher_scores={score: row["teacher_score"]},
                )  # fmt: skip
    for number, name, data in ((6, "table_6_best_xsum", "XSUM"), (7, "table_7_best_cnn", "CNN")):
        baselines = {row["teacher"]: row for row in tables[name]["rows"] if row.get("baseline")}
        for row in tables[name]["rows"]:
            if row.get("baseline"):
                continue
            method = row["method"].lower()
            technique = "orig_pl_pl" if "orig+pl+pl" in method else re.split(r"\W", method)[0]
            yield Row(
                number, row["teacher"], data, row["student"], technique,
                student_scores=printed(row), teacher_scores=printed(baselines[row["teacher"]]),
            )  # fmt: skip
    for row in tables["table_8_init_xsum"]["rows"]:
        yield init_row(8, "BART", "XSUM", row)
    for row in tables["table_9_init_other"]["rows"]:
        yield init_row(9, row["teacher"], row["dataset"], row)
    for row in tables["table_10_pl_strategies"]["rows"]:
        score = SCORE[row["dataset"]]
        for column, technique in (("orig", "sft"), ("pl", "pl"), ("orig_pl", "orig_pl"), ("orig_pl_pl", "orig_pl_pl")):
            if row[column] is not None:
                yield Row(
                    10, row["teacher"], row["dataset"], row["size"], technique, short=True,
                    student_scores={score: round(row["teacher_score"] + row[column], 4)},
                    teacher_scores={score: row["teacher_score"]},
                )  # fmt: skip


def printed(row: Mapping[str, Any]) -> dict[str, float]:
    """The Rouge-L of Tables 6 and 7 is rougeLsum."""
    names = {"rouge2": "rouge2", "rougeL": "rougeLsum", "speedup": "speedup", "mm_params": "million_parameters"}
    return {name: row[key] for key, name in names.items() if row[key] is not None}


def init_row(table: int, teacher: str, data: str, row: Mapping[str, Any]) -> Row:
    origins = {"PT": "facebook/bart-large", **{data: model for (_, data), model in TEACHERS.items() if "bart" in model}}
    own = TEACHERS[teacher, data]
    origin = {None: None, teacher: own, data: own}.get(row["from"], origins.get(row["from"]))
    layers = None if row["layers"] is None else tuple(row["layers"])
    size = "6-3" if teacher == "Marian" else "12-3"
    return Row(
        table, teacher, data, size, f"init:{row['name']}",
        student_scores={"validation_loss": row["min_loss"]}, layers=layers, origin=origin,
    )  # fmt: skip


ROWS = list(read_rows()) if TABLES.is_file() else []


@dataclass(frozen=True)
class Run:
    """A compiled run, and the same words for it as for a row."""

    spec: str
    plan: Any

    def __str__(self) -> str:
        return f"{self.spec} {self.plan['variant']}"

    @property
    def train(self) -> Any:
        return next(stage["settings"] for stage in self.plan["stages"] if stage["id"] == "train")

    @property
    def data(self) -> str:
        sources = self.plan["spec"]["data"]
        (name,) = {sources["train"][0]["hub"], sources["validation"][0]["hub"], sources["test"]["test"][0]["hub"]}
        return DATA[name]

    @property
    def size(self) -> str:
        return f"{self.plan['student']['encoder_layers']}-{self.plan['student']['decoder_layers']}"

    @property
    def technique(self) -> str:
        """By what it is trained on, and by what."""
        spec, objective = self.plan["spec"], self.train["objective"]
        terms = {name for name, term in objective.items() if term and name != "phi"}
        first, *others = spec["targets"]
        labellers = [spec["pseudo_labels"][name]["by"] for name in spec["targets"] if name != "original"]
        assert labellers[:1] in ([], ["teacher"]), "the teacher's own labels come first"
        assert all(by != "teacher" and by["hub"] in TEACHERS.values() for by in labellers[1:])
        if terms == {"labels", "logits", "hidden"}:
            assert spec["targets"] == ["original"]
            return "kd"
        assert terms == {"labels"}
        if first == "original":
            return {0: "sft", 1: "orig_pl", 2: "orig_pl_pl"}[len(others)]
        assert not others
        return "pl"

    @property
    def is_init_study(self) -> bool:
        return bool(self.train["validation"]["metrics"] == ["loss"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """All specs compiled, offline, by the command that users type."""
    folder = tmp_path_factory.mktemp("plans")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.delenv("DISTILC_SITE", raising=False)
        for spec in SPECS:
            result = CliRunner().invoke(
                distilc, ["compile", str(spec), "-o", str(folder / spec.stem), "--workspace", str(folder / "workspace"),
                          "--offline", "--models", str(MODELS)]
            )  # fmt: skip
            assert result.exit_code == 0, result.output
            plans = [json.loads(plan.read_text("utf-8")) for plan in (folder / spec.stem).rglob("plan.json")]
            assert all(plan["name"] == f"{spec.stem}-{plan['variant']}" for plan in plans)
            found += [Run(spec.name, plan) for plan in plans]
    return found


def the_run(row: Row, runs: list[Run]) -> Run:
    """The only run that a row can mean."""
    found = [
        run
        for run in runs
        if run.plan["teacher"]["model"] == TEACHERS[row.teacher, row.data]
        and (run.data, run.size) == (row.data, row.size)
        and run.is_init_study == row.technique.startswith("init:")
        and (run.train["stopping"]["max_epochs"] == 2) == row.short
        and (is_init(row, run) if run.is_init_study else run.technique == row.technique)
    ]
    assert len(found) == 1, f"{row} is {[str(run) for run in found] or 'no run'}"
    return found[0]


def is_init(row: Row, run: Run) -> bool:
    """Is the decoder made of these layers of this model?"""
    stages = {stage["id"]: stage for stage in run.plan["stages"]}
    made = stages["student"]["settings"]["decoder"]
    if made["origin"] is None or row.origin is None:
        return made["origin"] is row.origin is None
    by = run.plan["spec"]["student"]["init"]["decoder"]["from"]
    origin = run.plan["teacher"]["model"] if by == "teacher" else by["hub"]
    return tuple(made["layers"]) == row.layers and origin == row.origin


def test_the_tables_have_as_many_runs_as_cells() -> None:
    counts = {table: sum(row.table == table for row in ROWS) for table in range(5, 11)}
    assert counts == {5: 17, 6: 7, 7: 4, 8: 8, 9: 8, 10: 19}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_has_its_run_and_its_numbers(row: Row, runs: list[Run]) -> None:
    run = the_run(row, runs)
    for who, scores in (("student", row.student_scores), ("teacher", row.teacher_scores)):
        if not scores:
            continue
        expected = run.plan["expect"][who]
        assert re.search(rf"\bTable {row.table}\b", expected["source"]), (run, who, expected)
        for metric, value in scores.items():
            if expected["scores"][metric] != value:  # the run is in two tables, which disagree
                assert re.search(rf"\(Table {row.table} prints {value}\)", expected["source"]), (run, who, metric)


def test_every_run_is_in_a_table(runs: list[Run]) -> None:
    named = {str(the_run(row, runs)) for row in ROWS}
    assert {str(run) for run in runs} == named


def test_no_number_is_in_no_table(runs: list[Run]) -> None:
    for run in runs:
        rows = [row for row in ROWS if the_run(row, runs) == run]
        for who, printed_scores in (
            ("student", [row.student_scores for row in rows]),
            ("teacher", [row.teacher_scores for row in rows]),
        ):
            for metric, value in run.plan["expect"].get(who, {"scores": {}})["scores"].items():
                assert value in [scores.get(metric) for scores in printed_scores], (str(run), who, metric)


# --- layers and sizes ------------------------------------------------------------------------------


def test_layers_are_copied_as_the_tables_say(runs: list[Run]) -> None:
    for run in runs:
        if run.is_init_study:
            continue
        for stack in ("encoder", "decoder"):
            depths = tuple(run.plan[who][f"{stack}_layers"] for who in ("teacher", "student"))
            assert run.plan["copy"][stack] == COPIES[depths], str(run)


def test_encoders_of_the_init_studies_are_whole(runs: list[Run]) -> None:
    studies = [run for run in runs if run.is_init_study]
    assert len(studies) == 16
    for run in studies:
        assert run.plan["copy"]["encoder"] == list(range(run.plan["teacher"]["encoder_layers"]))
        assert run.train["freeze"] == ["encoder", "embeddings", "positions"]
        assert run.train["validation"]["every_epochs"] == 0.1


def test_kd_has_the_weights_and_the_layers_of_the_paper(runs: list[Run]) -> None:
    found = [run for run in runs if not run.is_init_study and run.technique == "kd"]
    assert len(found) == 8 and len({run.plan["teacher"]["model"] for run in found}) == 5
    for run in found:
        objective, plan = run.train["objective"], run.plan
        assert objective["labels"] == {"weight": 1.0, "smoothing": 0.0}
        assert (objective["logits"]["weight"], objective["logits"]["temperature"]) == (0.8, 2.0)
        assert objective["logits"]["divergence"] == "forward-kl"
        smaller = plan["student"]["encoder_layers"] < plan["teacher"]["encoder_layers"]
        assert (objective["hidden"]["encoder"], objective["hidden"]["decoder"]) == (3.0 if smaller else 0.0, 3.0)
        assert objective["hidden"]["align"] == "outputs"
        per_batch = plan["teacher"]["family"] == "pegasus"
        assert objective["hidden"]["layer_norm"] == ("per-batch" if per_batch else "none")
        for stack in ("encoder", "decoder"):
            depths = tuple(plan[who][f"{stack}_layers"] for who in ("teacher", "student"))
            whole = stack == "encoder" and not smaller
            assert objective["phi"][stack] == plan["phi"][stack] == (None if whole else PHI[depths]), str(run)


def test_a_full_encoder_is_frozen_and_a_smaller_one_is_not(runs: list[Run]) -> None:
    trained = set()
    for run in runs:
        full = run.plan["student"]["encoder_layers"] == run.plan["teacher"]["encoder_layers"]
        assert run.train["freeze"] == [*(["encoder"] if full else []), "embeddings", "positions"], str(run)
        trained |= set() if full else {run.size}
    assert trained == {"6-6", "9-6"}


@pytest.mark.parametrize("row", [row for row in ROWS if row.table in (6, 7)], ids=str)
def test_sizes_are_the_printed_ones(row: Row, runs: list[Run]) -> None:
    """To the million. Pegasus is printed partly with 512, partly with 1,024 positions, which are no weights."""
    plan = the_run(row, runs).plan
    for who, scores in (("student", row.student_scores), ("teacher", row.teacher_scores)):
        counted = {plan[who]["parameters"]}
        if plan["teacher"]["family"] == "pegasus":
            table = 2 * 512 * 1024  # 512 positions more or fewer, in both stacks
            counted |= {plan[who]["parameters"] + (table if row.data == "XSUM" else -table)}
        assert scores["million_parameters"] in {round(number / 1e6) for number in counted}, (who, counted)


# --- procedure -------------------------------------------------------------------------------------


def test_the_procedure_is_that_of_section_4(runs: list[Run]) -> None:
    for run in runs:
        stopping, validation = run.train["stopping"], run.train["validation"]
        assert stopping["max_epochs"] in (2, 5)
        assert stopping["patience"] * validation["every_epochs"] == pytest.approx(1), "one epoch"
        assert run.train["warmup_steps"] == 500 and run.train["schedule"] == "linear"
        if run.is_init_study:
            assert (stopping["monitor"], stopping["patience"]) == ("loss", 10)
        else:
            assert (stopping["monitor"], stopping["patience"]) == (SCORE[run.data], 4)
        if run.plan["teacher"]["family"] == "pegasus":
            assert run.train["precision"] == "fp32"


# learning rate, batches that occur, source tokens, target tokens
TRAINING = {
    "facebook/bart-large-xsum": (3e-4, {32, 64}, 1024, 60),
    "facebook/bart-large-cnn": (3e-5, {32}, 1024, 142),
    "google/pegasus-xsum": (1e-4, {256}, 512, 60),
    "google/pegasus-cnn_dailymail": (1e-4, {256}, 1024, 142),
    "Helsinki-NLP/opus-mt-en-ro": (3e-4, {64}, 128, 128),
    "facebook/mbart-large-en-ro": (3e-5, {4}, 128, 128),
}
# beams, length penalty, least and largest length of teacher and labels; the students' length penalty
GENERATION = {
    "facebook/bart-large-xsum": ((6, 1.0, 11, 62), 0.5),
    "facebook/bart-large-cnn": ((4, 2.0, 56, 142), 2.0),
    "google/pegasus-xsum": ((8, 0.8, None, 64), 0.8),
    "google/pegasus-cnn_dailymail": ((8, 0.8, None, 128), 0.8),
    "Helsinki-NLP/opus-mt-en-ro": ((None, None, None, None), None),
    "facebook/mbart-large-en-ro": ((None, None, None, None), None),
}


@pytest.mark.parametrize("teacher", TRAINING)
def test_hyper_parameters_are_the_published_ones(teacher: str, runs: list[Run]) -> None:
    own = [run for run in runs if run.plan["teacher"]["model"] == teacher]
    rate, batches, source, target = TRAINING[teacher]
    assert {run.train["batch"]["size"] for run in own} == batches
    for run in own:
        assert run.train["batch"]["unit"] == "examples" and run.train["learning_rate"] == rate
        lengths = next(stage["settings"] for stage in run.plan["stages"] if stage["kind"] == "data")
        assert (lengths["max_source_tokens"], lengths["max_target_tokens"]) == (source, target)


@pytest.mark.parametrize("teacher", GENERATION)
def test_generation_is_the_published_one(teacher: str, runs: list[Run]) -> None:
    def words(settings: Any) -> tuple[Any, ...]:
        generation = settings["generation"]
        return tuple(generation[name] for name in ("beams", "length_penalty", "min_length", "max_length"))

    whole, penalty = GENERATION[teacher]
    for run in (run for run in runs if run.plan["teacher"]["model"] == teacher):
        stages = {stage["id"]: stage["settings"] for stage in run.plan["stages"]}
        assert words(stages["evaluate-teacher"]) == whole
        beams, _, low, high = whole
        assert words(stages["evaluate-student"]) == (beams, penalty, low, high)
        labellers = run.plan["spec"].get("pseudo_labels", {})
        for name in run.plan["spec"]["targets"]:
            if name == "original":
                continue
            by = labellers[name]["by"]
            writer = teacher if by == "teacher" else by["hub"]
            assert words(stages[f"labels-{name}"]) == GENERATION[writer][0], (str(run), name)
            assert stages[f"labels-{name}"]["max_source_tokens"] == TRAINING[writer][2]


def test_specs_check_clean() -> None:
    """No errors; what is warned of is what the paper found, pseudo-labels on CNN/DailyMail, and that the models here
    are configs alone."""
    result = CliRunner().invoke(
        distilc, ["check", "--offline", "--models", str(MODELS), "--format", "json", *map(str, SPECS)]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)["diagnostics"]
    assert {d["severity"] for d in found} == {"warning"}
    assert {d["code"] for d in found} == {"W413", "W575"}
    found = [d for d in found if d["code"] == "W413"]
    assert {Path(d["file"]).name for d in found} == {"bart-cnn.yaml", "pegasus-cnn.yaml"}
