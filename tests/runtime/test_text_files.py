"""Files of texts and how predictions are held against references: every refusal names its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distilc.runtime.data.alignment import align
from distilc.runtime.data.text_files import Layout, Texts, read_texts
from distilc.runtime.failure import Failure

LAYOUT = Layout(None, ("prediction", "text"), "--column")
STRICT = Layout(None, ("prediction", "text"), "--column", empty=False)


def texts(name: str, *found: str, ids: str | None = None) -> Texts:
    places = [f"{name}:{i}" for i in range(1, len(found) + 1)]
    return Texts(name, found, places, None if ids is None else ids.split(), None)


def failure(call: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    ("name", "content", "layout", "expected", "ids"),
    [
        ("a.txt", "one\r\n\ntwo", LAYOUT, ["one", "", "two"], None),
        ("a.jsonl", '{"id": 1, "prediction": "x", "b": 2}\n', LAYOUT, ["x"], ["1"]),
        ("a.jsonl", '{"name": "n", "only": "x"}', Layout("only", (), "-c", id="name"), ["x"], ["n"]),
        ("a.csv", "id,summary\ni,x\nj,y\n", LAYOUT, ["x", "y"], ["i", "j"]),
        ("a.tsv", 'id\tsummary\ni\t"x\nj\ty"\n', LAYOUT, ['"x', 'y"'], ["i", "j"]),
        ("a.json", '[{"t": {"en": "deep"}}]', Layout("t.en", (), "-c"), ["deep"], None),
        ("a.jsonl", '{"label": 2}', LAYOUT, ["2"], None),  # the only column, and a label by its number
    ],
)
def test_reads(
    tmp_path: Path, name: str, content: str, layout: Layout, expected: list[str], ids: list[str] | None
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    found = read_texts(tmp_path / name, layout)
    assert (list(found.texts), found.ids) == (expected, ids)
    assert len(found.places) == len(expected) and all(str(tmp_path / name) in place for place in found.places)


@pytest.mark.parametrize(
    ("name", "content", "layout", "code", "words"),
    [
        ("a.txt", "one\n\n", STRICT, "R361", "a.txt:2: the line is empty"),
        ("a.txt", "", LAYOUT, "R204", "has no rows"),
        ("a.jsonl", '{"prediction": "x"}\n{"prediction": null}', LAYOUT, "R361", "a.jsonl:2: the column 'prediction' holds null"),
        ("a.jsonl", '{"a": "x", "b": "y"}', LAYOUT, "R361", "a.jsonl:1: which column holds the texts?"),
        ("a.jsonl", '{"a": "x"}', Layout("aa", (), "-c"), "R361", "there is no column 'aa'; the columns are a"),
        ("a.jsonl", '{"id": 1, "a": "x"}\n{"id": "1", "a": "y"}', LAYOUT, "R362", "a.jsonl:2: the id '1' was in"),
        ("a.jsonl", '{"id": "1", "text": "x"}\n{"id": null, "text": "y"}', LAYOUT, "R361", "a.jsonl:2: the column 'id' is empty"),
        ("a.csv", "id,text\n ,x\n", LAYOUT, "R361", "a.csv:2: the column 'id' is empty"),
        ("a.jsonl", '{"id": [1], "text": "x"}', LAYOUT, "R361", "a.jsonl:1: the column 'id' holds list, not text"),
        ("a.jsonl", '{"text": "caf\\ud83d"}', LAYOUT, "R202", "the column 'text' holds half a character (\\ud83d)"),
        ("a.jsonl", '["x"]', LAYOUT, "R202", "a.jsonl:1: a row must be an object"),
        ("a.jsonl", '{"a": \n', LAYOUT, "R202", "a.jsonl:1: not JSON"),
        ("a.doc", "x", LAYOUT, "R201", "files of kind .doc are not read"),
    ],
)  # fmt: skip
def test_refuses(tmp_path: Path, name: str, content: str, layout: Layout, code: str, words: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    found = failure(lambda: read_texts(tmp_path / name, layout))
    assert found.code == code and words in found.message


def test_the_hint_is_for_the_column_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"name": "n", "text": "x"}', "utf-8")
    id = failure(lambda: read_texts(path, Layout(None, ("text",), "--column", "nmae", "columns.id")))
    assert id.message.endswith("there is no column 'nmae'; the columns are name, text")
    assert id.hint == "did you mean 'name'? name the column of ids with columns.id"
    text = failure(lambda: read_texts(path, Layout("txt", (), "--column", "name")))
    assert text.hint == "did you mean 'text'? name a column of texts with --column"


def test_another_content_than_the_plan_says_is_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": "x"}), "utf-8")
        assert failure(lambda name=name: read_texts(tmp_path / name, LAYOUT, "0" * 64)).code == "R206"


def test_aligned_by_id_in_the_order_of_the_references() -> None:
    aligned = align(texts("p", "B", "A", ids="b a"), texts("r", "a", "b", ids="a b"))
    assert (aligned.predictions, aligned.references, aligned.by) == (["A", "B"], ["a", "b"], "id")
    by_line = align(texts("p", "B", "A", ids="b a"), texts("r", "a", "b"))
    assert (by_line.predictions, by_line.by) == (["B", "A"], "line")
    assert align(texts("p", "B", "A", ids="b a"), texts("r", "a", "b", ids="a b"), "line").predictions == ["B", "A"]


def test_a_row_without_a_partner_is_named() -> None:
    lines = failure(lambda: align(texts("p", "A"), texts("r", "a", "b", "c")))
    assert lines.code == "R363" and "r:2 is the first one without a partner" in lines.message
    lacking = failure(lambda: align(texts("p", "A", ids="a"), texts("r", "a", "b", "c", ids="a b c")))
    assert "2 of 3 references have no prediction in p, the first: r:2 (id 'b')" in lacking.message
    more = failure(lambda: align(texts("p", "A", "X", "Y", ids="a x y"), texts("r", "a", ids="a")))
    assert "p:2: the id 'x' is none of r, nor are 1 more" in more.message
    some = align(texts("p", "A", "X", ids="a x"), texts("r", "a", ids="a"), all_of=False)
    assert some.predictions == ["A"]
    assert "have no ids" in failure(lambda: align(texts("p", "A"), texts("r", "a", ids="a"), "id")).message
