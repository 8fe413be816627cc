"""`check --data` on files with several faults, and on files of labels: every kind once, with its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from spec_texts import TINY as GOOD

from distilc.compiler.checks import row_check
from distilc.compiler.diagnostics.diagnostic import Diagnostic
from distilc.compiler.pipeline import compile_spec, read_data
from distilc.compiler.resolve import data_files
from distilc.compiler.resolve.site import SiteOptions, load_site

CLASSES = """\
version: 1
name: x
task: classification
teacher: facebook/bart-large-mnli
student: {decoder_layers: 3}
data:
  train: {files: rows.jsonl}
  validation: {hub: a/b}
  test: {hub: a/b}
"""
WORDS = CLASSES.replace("classification", "masked-lm").replace("facebook/bart-large-mnli", "bert-base-uncased")
ROW = {"source": "A cat sat.", "target": "A cat."}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    return tmp_path


def judged(*overrides: str, text: str = GOOD) -> list[Diagnostic]:
    Path("spec.yaml").write_text(text, "utf-8")
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    compiled = compile_spec(Path("spec.yaml"), overrides, site)
    assert compiled.runs, compiled.diagnostics
    before = set(compiled.diagnostics)
    return [found for found in read_data(compiled).diagnostics if found not in before]


def messages(*overrides: str, text: str = GOOD) -> list[str]:
    return [f"{found.code} {found.path}: {found.message}" for found in judged(*overrides, text=text)]


def write(name: str, rows: Sequence[object]) -> None:
    Path(name).write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")


def test_a_row_has_as_many_cells_as_the_first_line() -> None:
    Path("rows.csv").write_text("source,target\na,b\na\n\na,b,c\n")
    assert messages("data.test={files: rows.csv}") == [
        "E421 data.test.files: rows.csv, row 2: the row is too short: 1 cell, and the first line names 2",
        "E421 data.test.files: rows.csv, row 3: the row is too long: 3 cells, and the first line names 2",
    ]


def test_null_is_no_missing_column() -> None:
    write("rows.jsonl", [ROW, {**ROW, "source": None}])
    (found,) = judged("data.test={files: rows.jsonl}")
    assert (found.code, found.path, found.message) == (
        "E422", "data.test.files", "rows.jsonl, row 2: 'source' is null",
    )  # fmt: skip
    write("rows.jsonl", [{"t": {"en": None}, "target": "x"}, {"t": None, "target": "x"}])
    null, missing = messages("data.test={files: rows.jsonl}", "data.columns={source: t.en}")
    assert "row 1: 't.en' is null" in null
    assert "row 2: no 't.en' here; other rows have it" in missing


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("rows.csv", "source;target", "`;`"),
        ("rows.csv", '"source"\t"target"', "tabs"),
        ("rows.tsv", "source,target", "commas"),
        ("rows.tsv", "source|target", "`|`"),
    ],
)
def test_another_separator_is_named(name: str, first: str, words: str) -> None:
    Path(name).write_text(f"{first}\na, b;c\n")
    (found,) = judged(f"data.test={{files: {name}}}")
    assert (found.code, found.message) == ("E421", f"{name} appears to be separated by {words}")
    assert found.hint == "a .csv is separated by commas, a .tsv by tabs"


def test_quotes_of_a_tsv_are_letters() -> None:
    """An opening quote does not run on over the rows below it."""
    Path("rows.tsv").write_text('source\ttarget\n"Dogs bark.\tCâinii\nHe said "no".\t"\n"A\tb"\n', "utf-8")
    rows = [{"source": '"Dogs bark.', "target": "Câinii"}, {"source": 'He said "no".', "target": '"'}]
    found = list(data_files.records(Path("rows.tsv")))
    assert found == [(1, rows[0]), (2, rows[1]), (3, {"source": '"A', "target": 'b"'})]
    assert judged("data.test={files: rows.tsv}") == []
    Path("rows.tsv").write_text("source\ttarget\na\tb\tc\nd\n", "utf-8")
    long, short = judged("data.test={files: rows.tsv}")
    assert long.message == "rows.tsv, row 1: the row is too long: 3 cells, and the first line names 2"
    assert "row 2: the row is too short: 1 cell" in short.message
    assert "no cell may hold a tab or a line break" in long.hint and long.hint == short.hint


def test_other_separators_may_stand_in_cells() -> None:
    Path("rows.csv").write_text('source,target\n"a; b, c",a|b\n' + "a" * 200_000 + ",b\n", "utf-8")
    Path("line.csv").write_bytes("source,target\r\na\u2028b,c\r\n".encode())
    assert messages("data.test={files: [rows.csv, line.csv]}", "data.max_source_tokens=64") == []


def test_a_name_stands_once() -> None:
    Path("rows.csv").write_text("source,target,source,,\na,b,c,,\n")
    write("rows.jsonl", [ROW, '{"source": "a", "target": "b", "more": {"x": 1, "x": 2}}'])
    Path("rows.json").write_text('[{"source": "a", "source": "b", "target": "c"}]')
    assert messages("data.test={files: [rows.csv, rows.jsonl, rows.json]}") == [
        "E421 data.test.files[0]: rows.csv: its first line names 'source' more than once",
        "E421 data.test.files[1]: rows.jsonl, row 2: a duplicate key in one object: 'x'",
        "E421 data.test.files[2]: rows.json: a duplicate key in one object: 'source'",
    ]
    Path("rows.csv").write_text("source,target,,\na,b,c,\n")
    assert messages("data.test={files: rows.csv}") == []


@pytest.mark.parametrize(
    ("text", "row", "path", "hint"),
    [
        (CLASSES, {"texts": "a", "label": 0}, "data.columns.text", "did you mean `data: {columns: {text: texts}}`?"),
        (
            CLASSES,
            {"premise": "a", "hypothesis": "b", "label": 0},
            "data.columns.text",
            "did you mean `data: {columns: {premise: premise, hypothesis: hypothesis}}`?",
        ),
        (CLASSES, {"text": "a", "labels": 0}, "data.columns.label", "did you mean `data: {columns: {label: labels}}`?"),
        (
            CLASSES + "  columns: {hypothesis: second}\n",
            {"first": "a", "second": "b", "label": 0},
            "data.columns.premise",
            "name it: `data: {columns: {premise: first}}`",
        ),
        (WORDS, {"sentence": "a"}, "data.columns.text", "name it: `data: {columns: {text: sentence}}`"),
        (GOOD, {"source": "a", "the: target": "b"}, "data.columns.target",
         "did you mean `data: {columns: {target: \"the: target\"}}`?"),
        (GOOD, {"source": "a", "b": "b", "c": "c"}, "data.columns.target", "name it: `data: {columns: {target: ...}}`"),
    ],
)  # fmt: skip
def test_columns_go_by_the_keys_of_the_task(text: str, row: object, path: str, hint: str) -> None:
    write("rows.jsonl", [row])
    overrides = ["data.train={files: rows.jsonl}"] if text == GOOD else []
    (found,) = judged(*overrides, text=text)
    assert (found.code, found.path, found.hint) == ("E422", path, hint)


def test_rows_without_the_column_of_ids() -> None:
    """It is the row that is wrong where others have it, before or after; else the name, or the wish for ids."""
    write("rows.jsonl", [ROW, {**ROW, "id": 1}, ROW, "oops"])
    found = messages("data.test={files: rows.jsonl}", "data.columns.id=id")
    assert "E422 data.test.files: rows.jsonl, rows 1 and 3: no 'id' here; other rows have it" in found
    write("rows.jsonl", [ROW, ROW])
    (missing,) = judged("data.test={files: rows.jsonl}", "data.columns.id=id")
    assert missing.path == "data.columns.id"
    assert missing.hint == "name it: `data: {columns: {id: ...}}`, or remove `columns.id`: the rows are then numbered"


@pytest.mark.usefixtures("trained")
def test_the_only_candidate_is_filled_in() -> None:
    write("labels.jsonl", [{"id": 0, "prediction": "a"}])
    (found,) = [d for d in judged(*TRAINED, DUMP) if d.code == "E422"]
    assert found.hint == "name it: `pseudo_labels: {dump: {columns: {text: prediction}}}`"


def test_what_a_wrong_column_costs_is_said_once() -> None:
    write("a.jsonl", [ROW] * 5)
    write("b.jsonl", [ROW])
    everywhere = ("data.train={files: a.jsonl}", "data.validation={files: [b.jsonl, a.jsonl]}")
    assert messages(*everywhere, "data.columns={target: tgt}") == [
        "E422 data.columns.target: a.jsonl, row 1 and 4 more; b.jsonl, row 1: "
        "there is no column 'tgt'; the columns are 'source' and 'target'"
    ]
    names = [f"c{i}.jsonl" for i in range(6)]
    for name in names:
        write(name, [ROW])
    (only,) = messages(f"data.train={{files: [{', '.join(names)}]}}", "data.columns={target: tgt}")
    assert "c3.jsonl, row 1; and 2 more files: there is no column 'tgt'" in only


def test_unknown_labels_are_said_once() -> None:
    write("rows.jsonl", [{"text": "a", "label": label} for label in ("dry", "wet", 2, "wet", True, 1)])
    assert messages("data.labels=[dry, rainy]", text=CLASSES) == [
        "E426 data.labels: rows.jsonl, rows 2, 3 and 4: not one of the labels dry and rainy: 'wet'; 2",
        "E422 data.columns.label: rows.jsonl, row 5: 'label' is not a text: true",
    ]


def test_every_kind_of_fault_with_its_first_rows() -> None:
    bad = ["oops 1", {**ROW, "target": " "}, [1], {**ROW, "target": "\ud83d"}]
    write("rows.jsonl", [ROW, *bad, *bad, *bad, *bad, ROW])
    assert messages("data.test={files: rows.jsonl}") == [
        "E421 data.test.files: rows.jsonl, rows 2, 6, 10 and 1 more: not JSON: 'oops 1'",
        "E423 data.test.files: rows.jsonl, rows 3, 7, 11 and 1 more: the target is empty",
        "E421 data.test.files: rows.jsonl, rows 4, 8, 12 and 1 more: not a JSON object: [1]",
        "E421 data.test.files: rows.jsonl, rows 5, 9, 13 and 1 more: the target contains half of a character (a lone surrogate)",
    ]


def test_reading_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_check, "MOST_UNREADABLE", 5)
    write("rows.jsonl", ["oops"] * 9)
    assert messages("data.test={files: rows.jsonl}") == [
        "E421 data.test.files: rows.jsonl: 5 rows cannot be read, the rest was left out",
        "E421 data.test.files: rows.jsonl, rows 1, 2, 3 and 2 more: not JSON: 'oops'",
    ]
    monkeypatch.setattr(data_files, "MOST_LINE_BYTES", 1 << 20)
    Path("rows.jsonl").write_bytes(b"x" * (3 << 20))
    assert messages("data.test={files: rows.jsonl}") == [
        "E421 data.test.files: rows.jsonl, row 1: a line of more than 1 MiB"
    ]


def test_what_is_cut_is_told_once_for_all_files() -> None:
    for name, words in (("train", 9), ("validation", 7), ("test", 5)):
        rows = [{"id": i, "source": "w " * (words if i < 5 else 1), "target": "b"} for i in range(10)]
        write(f"{name}.jsonl", rows)
    names = {name: f"data.{name}={{files: {name}.jsonl}}" for name in ("train", "validation", "test")}
    (found,) = [one for one in judged(*names.values(), "data.max_source_tokens=6") if one.code == "W421"]
    assert found.message == (
        "train.jsonl: 50 % and validation.jsonl: 50 % of the sources have more words than max_source_tokens 6, and are cut"
    )
    assert found.hint.startswith("95 % have at most 9 words") and found.path == "data.train.files"


@pytest.mark.parametrize(
    ("column", "typed"),
    [
        ("so\x1b[31murce", '"so\\x1b[31murce"'),
        ("source, or", '"source, or"'),
        ("the \"source\"", '"the \\"source\\""'),
        ("Über", '"Über"'),
        ("yes", '"yes"'),
    ],
)
def test_a_column_is_told_as_it_can_be_typed(column: str, typed: str) -> None:
    write("rows.jsonl", [{column: "a", "target": "b"}])
    sources = [f"data.{name}={{files: rows.jsonl}}" for name in ("train", "test")]
    (found,) = [one for one in judged(*sources) if one.code == "E422"]
    assert found.hint.endswith(f"`data: {{columns: {{source: {typed}}}}}`") or found.hint.endswith(
        f"`data: {{columns: {{source: {typed}}}}}`?"
    )
    assert not [one for one in judged(*sources, f"data.columns.source={typed}") if one.code == "E422"]


@pytest.mark.parametrize("column", ["so\ud800", "s" * 101])
def test_a_column_that_nobody_types_is_left_out(column: str) -> None:
    write("rows.jsonl", [{column: "a", "target": "b"}])
    (found,) = [one for one in judged("data.train={files: rows.jsonl}") if one.code == "E422"]
    assert "source: ...}" in found.hint


def test_a_file_of_an_unknown_kind_is_not_opened() -> None:
    Path("rows.txt").write_text("A cat.\n")
    assert messages("data.test={files: rows.txt}") == []  # E412 was reported before


# --- files of labels -------------------------------------------------------------------------------

TRAINED = ("data.train={files: rows.jsonl}", "data.columns={id: id}", "targets=[original, dump]")
DUMP = "pseudo_labels={dump: {file: labels.jsonl}}"


@pytest.fixture
def trained() -> None:
    write("rows.jsonl", [{**ROW, "id": i} for i in range(4)])


def labels(*ids: object) -> list[object]:
    return [{"id": id, "text": f"Cat {id}."} for id in ids]


@pytest.mark.usefixtures("trained")
def test_labels_for_every_row() -> None:
    write("labels.jsonl", labels("3", "1", 0, 2))
    assert messages(*TRAINED, DUMP) == []


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (labels(0, 1, 2, 3, 2), ["E425 pseudo_labels.dump.file: labels.jsonl, row 5: duplicate id '2', first in "
                                 "labels.jsonl, row 3"]),
        ([*labels(0, 1, 2), {"id": 3, "text": ""}],
         ["E423 pseudo_labels.dump.file: labels.jsonl, row 4: the text is empty"]),
        ([*labels(0, 1, 2), {"id": 3, "prediction": "a"}],
         ["E422 pseudo_labels.dump.file: labels.jsonl, row 4: no 'text' here; other rows have it"]),
        ([{"id": number, "prediction": "a"} for number in range(4)],
         ["E422 pseudo_labels.dump.columns.text: labels.jsonl, rows 1, 2, 3 and 1 more: there is no column 'text'; "
          "the columns are 'id' and 'prediction'"]),
        (["oops"], ["E421 pseudo_labels.dump.file: labels.jsonl, row 1: not JSON: 'oops'"]),
        ([], ["E424 pseudo_labels.dump.file: no rows in labels.jsonl"]),
        (labels(0, 1, 2, 3, 7, 8),
         ["E427 pseudo_labels.dump.file: labels.jsonl, rows 5 and 6: not one of the 4 ids of the training data: "
          "'7'; '8'"]),
        (labels(0, 2),
         ["W423 pseudo_labels.dump.file: 2 of 4 training rows have no label in labels.jsonl, the first: rows.jsonl, "
          "row 2"]),
    ],
)  # fmt: skip
def test_a_file_of_labels(rows: list[object], expected: list[str]) -> None:
    write("labels.jsonl", rows)
    assert messages(*TRAINED, DUMP) == expected
    assert messages(*TRAINED[:2], "targets=[original]", DUMP) == []  # E415 was reported before


@pytest.mark.usefixtures("trained")
def test_ids_are_compared_where_they_are_known() -> None:
    """With a limit more labels than rows are as good, if one is of a row; without ids, or with an unread file,
    nothing is known."""
    write("labels.jsonl", labels(0, 1, 2, 3))
    assert messages("data.train={files: rows.jsonl, limit: 2}", *TRAINED[1:], DUMP) == []
    write("labels.jsonl", labels(7))
    assert [found.code for found in judged("data.train={files: rows.jsonl, limit: 2}", *TRAINED[1:], DUMP)] == ["E427"]
    write("labels.jsonl", labels(7, 1))
    assert [found.code for found in judged("data.train={files: rows.jsonl, limit: 2}", *TRAINED[1:], DUMP)] == ["W423"]
    assert messages(TRAINED[0], TRAINED[2], DUMP) == []
    assert messages(*TRAINED[1:], DUMP) == []
    write("rows.jsonl", ["oops", {**ROW, "id": 1}])
    assert [found.code for found in judged(*TRAINED, DUMP)] == ["E421"]


@pytest.mark.usefixtures("trained")
def test_each_run_has_its_labels_looked_at() -> None:
    """The runs share their data and not their labellers."""
    write("labels.jsonl", labels(0, 1, 2, 3))
    write("other.jsonl", labels(0, 1, 2, 3, 9))
    two = "pseudo_labels={dump: {file: labels.jsonl}, more: {file: other.jsonl}}"
    variants = "variants={one: {targets: [dump]}, two: {targets: [more]}}"
    (found,) = judged(*TRAINED[:2], two, variants)
    assert (found.code, found.path, found.runs) == ("E427", "pseudo_labels.more.file", ("variant two",))


def held(predictions: str, number: int, *overrides: str, rows: int = 4) -> list[str]:
    """What is said about a file with so many predictions for a test set with so many rows."""
    write("test.jsonl", [{**ROW, "id": f"r{i}"} for i in range(rows)])
    if predictions.endswith(".txt"):
        write(predictions, ["A cat."] * number)
    else:
        write(predictions, [{"id": f"r{i}", "text": "A cat."} for i in range(number)])
    return messages("data.test={files: test.jsonl}", f"baselines={{b: {{predictions: {predictions}}}}}", *overrides)


def test_predictions_without_ids_are_counted() -> None:
    short = "E427 baselines.b.predictions: p.txt has 3 rows, the test set has 4"
    assert held("p.txt", 3) == [short] and held("p.txt", 4) == []
    # The rows have no ids: those of the predictions are then not looked at.
    assert held("p.jsonl", 3) == [short.replace("p.txt", "p.jsonl")] and held("p.jsonl", 4) == []


def test_of_an_evaluation_of_some_rows_these_are_predicted() -> None:
    limit, ids = "evaluation.limit=2", "data.columns.id=id"
    assert held("p.txt", 3, limit) == held("p.txt", 2, limit) == held("p.jsonl", 3, limit, ids) == []
    assert held("p.txt", 1, limit) == [
        "E427 baselines.b.predictions: p.txt has 1 rows, the first 2 rows of the test set are evaluated"
    ]
    (found,) = held("p.jsonl", 1, limit, ids)
    assert "1 of 2 test rows have no prediction in p.jsonl, the first: test.jsonl, row 2" in found
    assert held("p.txt", 3, "evaluation.limit=4") == [
        "E427 baselines.b.predictions: p.txt has 3 rows, the test set has 4"
    ]


def test_a_built_in_corpus_has_as_many_rows_as_one_asks_for() -> None:
    write("p.txt", ["A cat."] * 3)
    asked = "data.test={{builtin: bulletins, limit: {}}}", "baselines={b: {predictions: p.txt}}"
    assert messages(asked[0].format(3), asked[1]) == []
    assert messages(asked[0].format(5), asked[1]) == [
        "E427 baselines.b.predictions: p.txt has 3 rows, the test set has 5"
    ]
    assert messages(asked[0].format("null"), asked[1]) == []


def test_a_test_row_may_have_several_references() -> None:
    write("rows.jsonl", [{**ROW, "target": ["A cat.", "The cat sat."]}, {**ROW, "target": "A cat."}])
    assert judged("data.test={files: rows.jsonl}") == []
    (found,) = judged("data.train={files: rows.jsonl}")
    assert found.code == "E422" and "a training row has one target" in found.hint
    write("rows.jsonl", [{**ROW, "target": ["A cat.", " "]}, {**ROW, "target": []}])
    empty, found = messages("data.test={files: rows.jsonl}")
    assert found.startswith("E422") and "row 2: 'target' is not a text: []" in found
    assert empty == "E423 data.test.files: rows.jsonl, row 1: a reference is empty"


def test_what_the_texts_of_a_set_say() -> None:
    write("a.jsonl", [ROW, {"source": "A dog ran.", "target": "A dog.[SEP]"}])
    write("b.jsonl", [{"source": "A dog ran.", "target": "дождь закрыл школу"}])
    told = messages("data={train: {files: a.jsonl}, test: {files: b.jsonl}}", "validation.metrics=[loss]")
    assert [found.partition(":")[0] for found in told] == ["W425 data.train.files", "W426 data.test.files", "W424 data.test.files"]
    assert "1 rows contain a control token in a text, the first: row 2, '[SEP]'" in told[0]
    assert "1 of 1 test sources of b.jsonl are also training sources, the first: row 1" in told[1]
    write("c.jsonl", [{"source": "[CLS] A bird.", "target": "A bird."}])
    told = messages("data={train: {files: [a.jsonl, c.jsonl]}}", "validation.metrics=[loss]")
    assert [text for text in told if "W425" in text] == [
        "W425 data.train.files[0]: a.jsonl: 1 rows contain a control token in a text, the first: row 2, '[SEP]'; so do rows of c.jsonl"
    ]
    (found,) = judged("data.validation={files: b.jsonl}", "validation.metrics=[loss, rouge2]")
    assert (found.code, found.path) == ("E428", "validation.metrics") and "unicode" in found.hint
    assert judged("data.validation={files: b.jsonl}", "evaluation.rouge.tokenizer=unicode") == []


def test_labels_by_name_and_by_number() -> None:
    """As the run reads them: in any case, and numbers of a CSV as text."""
    Path("rows.csv").write_text("premise,hypothesis,label\na,b,0\nc,d,Entailment\ne,f,3\n", "utf-8")
    columns = "data.columns={premise: premise, hypothesis: hypothesis, label: label}"
    labels = "data.labels=[contradiction, neutral, entailment]"
    assert messages("data.train={files: rows.csv}", columns, labels, text=CLASSES) == [
        "E426 data.labels: rows.csv, row 3: not one of the labels contradiction, neutral and entailment: '3'"
    ]


def test_rows_of_one_class() -> None:
    write("rows.jsonl", [{"text": "a", "label": "good"}, {"text": "b", "label": 1}])
    told = messages("data.columns={text: text}", "data.labels=[bad, good]", text=CLASSES)
    assert [message[:4] for message in told] == ["E430"] and "have the label 'good'" in told[0]
    write("rows.jsonl", [{"text": "a", "label": "good"}, {"text": "b</s>", "label": 0}])
    told = messages("data.columns={text: text}", "data.labels=[bad, good]", text=CLASSES)
    assert [message[:4] for message in told] == ["W425"]  # BART classifies from the last end token


def test_numbers_to_predict() -> None:
    text = CLASSES.replace("classification", "regression").replace("facebook/bart-large-mnli", "bert-base-uncased")
    text = text.replace("decoder_layers", "encoder_layers").replace("teacher: bert", "teacher: {train: {}, hub: bert")
    text = text.replace("uncased\n", "uncased}\n")
    good = [4.5, 3, "2.5", "1e-3", -100]
    write("rows.jsonl", [{"text": f"rain {i}", "label": label} for i, label in enumerate(good)])
    assert messages(text=text) == []
    bad = [1.0, float("nan"), "inf", "wet", True, [1.0]]
    write("rows.jsonl", [{"text": f"rain {i}", "label": label} for i, label in enumerate(bad)])
    (found,) = messages(text=text)
    assert found.startswith("E429 data.train.files: rows.jsonl, rows 2, 3, 4 and 2 more: 'label' is not a finite number: nan; ")
    write("rows.jsonl", [{"text": "rain", "label": 1.0}, {"text": "sun", "label": None}])
    (found,) = messages(text=text)
    assert "row 2: 'label' is null" in found
    write("rows.jsonl", [{"text": f"rain {i}", "label": 2} for i in range(3)])
    (found,) = messages(text=text)
    assert found.startswith("E430") and "have the label '2.0'" in found


def test_without_labels_the_names_are_those_of_the_teacher(folder: Path) -> None:
    """A number means nothing then: who counts, and from where?"""
    (folder / "m").mkdir()
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    text = CLASSES.replace("facebook/bart-large-mnli", "./m").replace("decoder_layers", "encoder_layers")

    def told(names: dict[str, str] | None, labels: Sequence[object]) -> list[str]:
        write("rows.jsonl", [{"text": f"rain {i}", "label": label} for i, label in enumerate(labels)])
        (folder / "m" / "config.json").write_text(json.dumps(config if names is None else {**config, "id2label": names}))
        Path("spec.yaml").write_text(text, "utf-8")
        site = load_site(SiteOptions(offline=True)).site
        assert site is not None
        compiled = compile_spec(Path("spec.yaml"), (), site)
        found = read_data(compiled, site=site).diagnostics
        return [f"{one.code}: {one.message}" for one in found if one.code.startswith("E")]

    names = {"0": "dry", "1": "wet"}
    assert told(names, ["dry", "WET"]) == []
    assert told(names, ["dry", "cold", 0]) == [
        "E426: rows.jsonl, rows 2 and 3: not one of the teacher's labels dry and wet: 'cold'; 0"
    ]
    missing = "E202: the key `labels` is missing in `data`: the teacher has no names for its classes"
    assert told({"0": "LABEL_0", "1": "LABEL_1"}, ["dry", "wet"]) == [missing]
    assert told(None, ["dry", "wet"]) == [missing]
