"""Rules across fields: each fires where it should, and only there."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from spec_texts import TINY as GOOD

from distilc.compiler.checks import check as rules
from distilc.compiler.checks.check_data import check_data
from distilc.compiler.diagnostics.diagnostic import Diagnostic
from distilc.compiler.pipeline import compile_spec
from distilc.compiler.resolve.site import SiteOptions, load_site

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    return tmp_path


def judged(*overrides: str, text: str = GOOD, data: bool = False) -> list[Diagnostic]:
    Path("spec.yaml").write_text(text, "utf-8")
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    compiled = compile_spec(Path("spec.yaml"), overrides, site)
    if data:
        for run in compiled.runs:
            check_data(run.experiment, run.reporter)
            return run.reporter.diagnostics
    return compiled.diagnostics


def found(*overrides: str) -> list[tuple[str, str]]:
    return [(diagnostic.code, diagnostic.path) for diagnostic in judged(*overrides)]


def test_a_share_of_an_endless_training_is_no_warm_up(compile_text: Any) -> None:
    found = compile_text("stopping={max_epochs: null, patience: 3}", "training={warmup: {ratio: 0.1}}", fingerprints=False)
    assert "E407" in found.codes
    assert "E407" not in compile_text("stopping={max_epochs: null, patience: 3}", fingerprints=False).codes


def test_every_rule_is_in_a_tuple() -> None:
    """But for those that read whole files (`check --data`) and the one about each run that is named."""
    tuples = (rules.SPEC, rules.SITE, rules.WRITERS, rules.TEACHER, rules.MODELS, rules.DATA, rules.PLAN)
    told = [rule.__name__ for rules_of in tuples for rule in rules_of] + [rule.__name__ for rule in rules.TOGETHER]
    assert len(told) == len(set(told)) > 40
    apart = {"check", "check_data", "aligned_files", "named_models"}
    defined = {
        name
        for file in (ROOT / "compiler" / "checks").glob("*.py") if file.stem not in apart
        for name in re.findall(r"^def (check_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }  # fmt: skip
    assert defined == {*told}
    for rules_of in tuples:
        contexts = [list(inspect.signature(rule).parameters.values()) for rule in rules_of]
        assert len({parameter.annotation for (parameter,) in contexts}) == 1, "a tuple has rules of one context"
        assert all(rule.__doc__ for rule in rules_of)


def test_a_good_spec_passes_every_rule() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # what this release does not find
        (["teacher={mlflow: models:/a/1}"], [("E401", "teacher.mlflow")]),
        (["teacher={spec: other.yaml}"], [("E431", "teacher.spec")]),
        (["student.init.decoder={from: {spec: other.yaml}}"], [("E431", "student.init.decoder.from.spec")]),
        (["pseudo_labels={own: {by: {mlflow: models:/a/1}}}", "targets=[own]"], [("E401", "pseudo_labels.own.by.mlflow")]),
        (
            ["teacher.train={stopping: {retention: {rouge2: 99}}, validation: {metrics: [loss, rouge2]}}"],
            [("E510", "teacher.train.stopping.retention")],
        ),
        # terms of the loss
        (["loss={labels: 1, logits: {weight: 0}, hidden: {decoder: 0.0}, cosine: 0}"], []),
        (["loss={labels: 0, logits: {weight: 0}, cosine: 0}"], [("E409", "loss")]),
        (["loss={logits: 0.8}"], []),
        (["loss.logits={divergence: jsd, beta: 0.3}"], []),
        (["loss.logits={divergence: skew-kl, beta: 0.3}"], [("E413", "loss.logits.beta")]),
        (["loss.logits={alpha: 0.3}"], [("E413", "loss.logits.alpha")]),
        (["loss.logits={positions: all}"], [("E413", "loss.logits.positions")]),
        (["loss.logits={divergence: mse, temperature: 2}"], [("E413", "loss.logits.temperature")]),
        (["loss.logits={divergence: mse}"], []),
        (["loss.logits={divergence: mse, candidates: {top_k: 4}}"], [("E594", "loss.logits.candidates")]),
        (["loss.hidden={decoder: 3, align: inputs}"], [("W411", "loss.hidden.align")]),
        (["loss={labels: 1, hidden: {decoder: 0, align: inputs}}"], []),
        (["phi.decoder=[1, 3]"], [("W415", "phi.decoder")]),
        (["phi.decoder=[1, 3]", "loss.attention={decoder_cross: 1}"], []),
        # targets
        (["pseudo_labels={own: {by: teacher}}", "targets=[original, own]"], []),
        (["pseudo_labels={own: {by: teacher}}"], [("E415", "pseudo_labels.own")]),
        (["pseudo_labels={own: {by: teacher}}", "targets=[own, {own: 2}]"], [("E583", "targets[1]")]),
        (["pseudo_labels={own: {by: teacher, best_of: 3, generation: {beams: 2}}}", "targets=[own]"],
         [("E582", "pseudo_labels.own.best_of")]),
        (["pseudo_labels={own: {by: teacher, best_of: 3, generation: {beams: 3}}}", "targets=[own]"], []),
        (["pseudo_labels={own: {by: teacher, best_of: 3, generation: {sampling: {top_p: 0.9}}}}", "targets=[own]"], []),
        (["pseudo_labels={own: {by: teacher, generation: {min_length: 9, max_length: 8}}}", "targets=[own]"],
         [("E408", "pseudo_labels.own.generation.min_length")]),
        (["pseudo_labels={own: {by: teacher, keep: {length_ratio: {min: 2, max: 1}}}}", "targets=[own]"],
         [("E584", "pseudo_labels.own.keep.length_ratio.min")]),
        (["pseudo_labels={own: {file: a.jsonl}}", "targets=[own]"], []),
        (["pseudo_labels={own: {file: a.jsonl}}", "targets=[own]", "data.train={files: r.jsonl}"],
         [("E581", "pseudo_labels.own.file")]),
        (["pseudo_labels={own: {file: a.txt}}", "targets=[own]", "data.columns.id=id"], [("E412", "pseudo_labels.own.file")]),
        (["targets=[own]"], [("E414", "targets[0]")]),
        (["pseudo_labels={own: {by: teacher}}", "targets=[own]", "data.train={hub: abisee/cnn_dailymail}"],
         [("W413", "targets[0]")]),
        (["data.train={hub: abisee/cnn_dailymail}"], []),
        (["pseudo_labels={peg: {by: google/pegasus-xsum}}", "targets=[peg]"], []),
        (["pseudo_labels={peg: {by: google/pegasus-xsum}}", "targets=[peg]", "loss.logits=1"], [("W414", "targets[0]")]),
        (["pseudo_labels={own: {by: teacher}}", "targets=[own]", "loss.logits=1"], []),
        # several runs
        (["seeds=[1, 2]", "variants={a: {}, b: {batch: {tokens: 5}}}", "matrix={student.decoder_layers: [1, 2]}"], []),
        (["expect={teacher: {rouge2: 22.29}, student: {test.rouge1: 3}}"], []),
        (["expect={teacher: {other.rouge2: 22.29}}"], [("E416", "expect.teacher.other.rouge2")]),
        # other tasks
        (["task=masked-lm", "data.columns={text: t}", "loss.logits={positions: masked}", "evaluation.speed=null"], []),
        (["task=masked-lm", "data.max_target_tokens=3", "validation.generation={beams: 2}"],
         [("E404", "data.max_target_tokens"), ("E404", "validation.generation")]),
        (["data.masking={share: 20}"], [("E404", "data.masking")]),
        (["task=classification", "data.columns={text: t, label: l}", "targets=[own]", "pseudo_labels={own: {by: teacher}}"],
         [("E414", "targets[0]")]),
        # metrics
        (["evaluation.metrics=[rouge1, accuracy]"], [("E402", "evaluation.metrics[1]")]),
        (["task=translation", "evaluation.metrics=[rouge1, bleu]"], [("E402", "evaluation.metrics[0]")]),
        (["task=translation", "teacher.train.validation.metrics=[rouge1]"],
         [("E402", "teacher.train.validation.metrics[0]"), ("E403", "teacher.train.stopping.monitor")]),
        (["stopping.monitor=rouge2"], [("E403", "stopping.monitor")]),
        (["stopping.monitor=rouge2", "validation.metrics=[rouge2]"], []),
        (["stopping.retention={rouge2: 95}"], [("E403", "stopping.retention.rouge2")]),
        (["teacher.train.stopping.monitor=rouge1"], [("E403", "teacher.train.stopping.monitor")]),
        (["validation.metrics=[rouge1]"], [("E403", "stopping.monitor")]),
        # data
        (["data.columns={label: y}"], [("E404", "data.columns.label")]),
        (["data.labels=[a, b]"], [("E404", "data.labels")]),
        (["data.columns={source: a, target: a}"], [("E405", "data.columns.target")]),
        (["data.columns={source: target}"], [("E405", "data.columns.target")]),
        (["data.train={files: a.jsonl, split: train}"], [("E406", "data.train.split")]),
        (["data.test.split=tst"], [("E406", "data.test.split")]),
        (["data.test=[{builtin: bulletins}, {files: a.csv, split: b}]"], [("E406", "data.test[1].split")]),
        (["data.train={files: [a.jsonl, b.txt, c]}"], [("E412", "data.train.files[1]")]),  # c may be a folder
        (["data.train={files: [a.JSONL, b.ndjson, c.json, d.csv, e.tsv, f.parquet]}"], []),
        # stopping
        (["stopping.max_epochs=null"], [("E407", "stopping")]),
        (["stopping={max_epochs: null, max_hours: 1}"], []),
        (["teacher.train.stopping.max_epochs=null"], [("E407", "teacher.train.stopping")]),
        # generation
        (["evaluation.teacher_generation={min_length: 9, max_length: 8}"],
         [("E408", "evaluation.teacher_generation.min_length")]),
        (["validation.generation={min_length: 8, max_length: 8}"], []),
        # loss, teacher, freezing
        (["loss={labels: 0}"], [("E409", "loss")]),
        (["teacher.train.loss={labels: {weight: 0}}"], [("E409", "teacher.train.loss")]),
        (["teacher.train=null"], [("E410", "teacher.architecture")]),
        (["student.init.encoder=random", "student.freeze=[encoder]"], [("E411", "student.freeze[0]")]),
        (["student.init.embeddings=random", "student.freeze=[encoder, positions, embeddings]"],
         [("E411", "student.freeze[1]"), ("E411", "student.freeze[2]")]),
        (["student.init.encoder=random", "student.freeze=[embeddings]"], []),
        # allowed, and probably not meant
        (["data.test.split=train"], [("W401", "data.test")]),
        (["data.train={files: [a.csv, b.csv]}", "data.validation={files: b.csv}"], [("W401", "data.validation.files")]),
        (["stopping.patience=20"], [("W402", "stopping.patience")]),
        (["stopping.patience=4"], []),
        (["stopping.max_epochs=0.2"], [("W402", "validation.every.epochs")]),
        (["stopping.max_steps=100", "validation.every={steps: 200}", "training.warmup={ratio: 0.1}"],
         [("W402", "validation.every.steps")]),
        (["stopping.max_steps=100", "training.warmup.steps=100"], [("W403", "training.warmup.steps")]),
        (["stopping.max_steps=100"], []),
    ],
)  # fmt: skip
def test_rule(overrides: list[str], expected: list[tuple[str, str]]) -> None:
    assert sorted(found(*overrides)) == sorted(expected)


def test_a_rule_says_nothing_about_what_was_refused() -> None:
    """The task is misspelt: whether BLEU fits it cannot be said."""
    assert found("task=translatoin", "evaluation.metrics=[bleu]") == [("E204", "task")]
    assert found("validation.metrcs=[rouge2]", "stopping.monitor=rouge2") == [("E201", "validation.metrcs")]


def test_a_rule_is_held_to_the_rest_of_a_wrong_spec() -> None:
    assert found("name=a b", "evaluation.metrics=[accuracy]", "stopping.max_epochs=null") == [
        ("E208", "name"), ("E402", "evaluation.metrics[0]"), ("E407", "stopping"),
    ]  # fmt: skip


def test_what_a_default_does_wrong_points_at_its_section() -> None:
    (one,) = judged("stopping.max_epochs=null")
    assert (one.file, one.line) == ("--set", 1)
    (one,) = judged(text=GOOD + "validation: {metrics: [rouge1]}\n")
    assert (one.code, one.path, one.line) == ("E403", "stopping.monitor", 1)


# --- check --data ----------------------------------------------------------------------------------

ROWS = [{"id": i, "source": f"A cat sat on mat {i}.", "target": f"Cat {i}."} for i in range(40)]


def write_rows(rows: list[object], name: str = "rows.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def of_data(*overrides: str) -> list[tuple[str, str, str]]:
    wide = ("data.test={files: rows.jsonl}", *overrides)
    return [(d.code, d.path, d.message) for d in judged(*wide, data=True)]


def test_good_rows() -> None:
    write_rows(list(ROWS))
    assert of_data("data.columns.id=id") == []


@pytest.mark.parametrize(
    ("row", "code", "path", "words"),
    [
        ({"id": 50, "text": "x", "target": "y"}, "E422", "data.test.files", "row 41: no 'source' here"),
        ({"id": 50, "source": "x", "target": 3}, "E422", "data.columns.target", "row 41: 'target' is not a text"),
        ({"id": 50, "source": " ", "target": "x"}, "E423", "data.test.files", "row 41: the source is empty"),
        (
            {"id": 7, "source": "x", "target": "y"},
            "E425",
            "data.test.files",
            "row 41: duplicate id '7', first in rows.jsonl, row 8",
        ),
        ([1, 2], "E421", "data.test.files", "row 41: not a JSON object: [1, 2]"),
    ],
)
def test_a_bad_row(row: object, code: str, path: str, words: str) -> None:
    write_rows([*ROWS, row])
    ((found_code, found_path, message),) = of_data("data.columns.id=id")
    assert (found_code, found_path) == (code, path)
    assert message.startswith("rows.jsonl") and words in message
    assert of_data("data.columns.id=id", "data.test.limit=40") == []  # the first rows are good


def test_bytes_that_are_no_rows() -> None:
    for content, words in (
        (b'{"source": "caf\xe9"}\n', "row 1: not UTF-8 (byte 0xe9)"),
        (b"a\tb\n", "row 1: not JSON"),
    ):
        Path("rows.jsonl").write_bytes(content)
        ((code, _, message),) = of_data()
        assert code == "E421" and words in message


def test_no_rows_and_several_files() -> None:
    write_rows([])
    assert [code for code, _, _ in of_data()] == ["E424"]
    write_rows(list(ROWS), "more.jsonl")
    assert of_data("data.test={files: [rows.jsonl, more.jsonl]}") == []


def test_other_kinds_of_files() -> None:
    Path("a.csv").write_bytes(b'\xef\xbb\xbfsource,target\n"x, y","z"\n')
    Path("a.tsv").write_text("source\ttarget\nx\ty\n")
    Path("a.json").write_text('[{"source": "x", "target": "y"}]')
    Path("nested.jsonl").write_text('{"t": {"en": "x", "de": "y"}}\n')
    Path("a.parquet").write_text("PAR1")
    assert of_data("data.test={files: [a.csv, a.tsv, a.json]}") == []
    assert of_data("data.test={files: nested.jsonl}", "data.columns={source: t.en, target: t.de}") == []
    assert [code for code, _, _ in of_data("data.test={files: a.parquet}")] == ["W422"]
    Path("b.parquet").write_text("PAR1")
    ((code, _, message),) = of_data("data.test={files: [a.parquet, b.parquet]}")
    assert (code, message.partition(":")[0]) == ("W422", "a.parquet and b.parquet were not opened")
    Path("a.json").write_text('{"source": "x"}')
    Path("a.tsv").write_bytes(b"source\ttarget\n\xe9\ty\n")
    Path("a.csv").write_text("source\nx\n")
    found = of_data("data.test={files: [a.csv, a.tsv, a.json]}")
    assert sorted((code, message.partition(":")[0]) for code, _, message in found) == [
        ("E421", "a.json does not contain a list of rows"), ("E421", "a.tsv, line 2"), ("E422", "a.csv, row 1"),
    ]  # fmt: skip


def test_ids_are_unique_in_a_split() -> None:
    write_rows(list(ROWS[:3]))
    write_rows(list(ROWS[2:5]), "more.jsonl")
    ((code, _, message),) = of_data("data.test={files: [rows.jsonl, more.jsonl]}", "data.columns.id=id")
    assert (code, message) == ("E425", "more.jsonl, row 1: duplicate id '2', first in rows.jsonl, row 3")
    both = "data.test={a: {files: rows.jsonl}, b: {files: more.jsonl}}"
    assert of_data(both, "data.columns.id=id") == []


def test_many_cut_rows_are_a_warning() -> None:
    write_rows([*ROWS, *({"source": "a " * 30, "target": "b"} for _ in range(3))])
    assert of_data("data.max_source_tokens=20") == [
        ("W421", "data.test.files",
         "rows.jsonl: 7 % of the sources have more words than max_source_tokens 20, and are cut"),
    ]  # fmt: skip
    assert of_data("data.max_source_tokens=30") == []
