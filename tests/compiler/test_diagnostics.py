"""Positions, rendering, and the wording that every message shares."""

from __future__ import annotations

import json

from distilc.compiler.diagnostics.diagnostic import (
    Diagnostic,
    Places,
    Position,
    Reporter,
    did_you_mean,
    dotted,
    in_order,
    listed,
    quoted,
    render_github,
    render_json,
    render_text,
)

TEXT = "name: x\nbatch: {examples: 64, tokens: 4096}\n"


def places() -> Places:
    return Places(
        keys={("batch",): Position("a.yaml", 2, 1), ("batch", "tokens"): Position("a.yaml", 2, 23)},
        values={(): Position("a.yaml", 1, 1), ("batch",): Position("a.yaml", 2, 8)},
    )


def test_a_path_falls_back_to_its_nearest_written_ancestor() -> None:
    reporter = Reporter(places())
    assert reporter.place(("batch",)) == Position("a.yaml", 2, 8)
    assert reporter.place(("batch",), "key") == Position("a.yaml", 2, 1)
    assert reporter.place(("batch", "examples")) == Position("a.yaml", 2, 1)
    assert reporter.place(("stopping", "patience")) == Position("a.yaml", 1, 1)
    assert Reporter(Places(), file="b.yaml").place(("x",)) == Position("b.yaml", 1, 1)


def test_text_shows_the_line_a_caret_and_the_hint() -> None:
    reporter = Reporter(places())
    reporter.error("E206", ("batch", "tokens"), "too many", "keep one", at="key")
    assert render_text(reporter.diagnostics, {"a.yaml": TEXT}) == (
        "a.yaml:2:23: E206: too many\n"
        "    2 | batch: {examples: 64, tokens: 4096}\n"
        "      |                       ^^^^^^\n"
        "  hint: keep one\n"
        "\n"
    )


def test_a_long_line_is_cut_around_the_caret() -> None:
    line = "a: [" + "x, " * 200 + "wrong]"
    column = line.index("wrong") + 1
    found = Diagnostic("E204", "error", "no", "", "a.yaml", 1, column, "a")
    shown = render_text([found], {"a.yaml": line}).split("\n")
    assert len(shown[1]) < 130
    caret = shown[2].index("^")
    assert shown[1][caret : caret + 5] == "wrong"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in quoted("a\x1b[31m")
    found = Diagnostic("E204", "error", "no", "", "a.yaml", 1, 1, "a")
    assert "\x1b" not in render_text([found], {"a.yaml": "a\x1b[31m: 1"})
    assert "\x1b[31m" in render_text([found], {}, color=True)


def test_json_has_exactly_the_documented_keys() -> None:
    reporter = Reporter(places())
    reporter.warning("W402", ("batch", "tokens"), "odd", "why?")
    rows = json.loads(render_json(reporter.diagnostics))
    assert rows == {
        "diagnostics": [
            {
                "code": "W402", "severity": "warning", "file": "a.yaml", "line": 2, "column": 23,
                "path": "batch.tokens", "message": "odd", "hint": "why?",
            }
        ]
    }  # fmt: skip
    assert json.loads(render_json([])) == {"diagnostics": []}


def test_github_escapes_what_its_format_means() -> None:
    found = Diagnostic("E201", "error", "50%\nof it", "a,b", "a:b.yaml", 3, 4, "x")
    assert render_github([found]) == ("::error file=a%3Ab.yaml,line=3,col=4,title=E201::50%25%0Aof it%0Ahint: a,b\n")


def test_diagnostics_are_ordered_by_position_and_said_once() -> None:
    reporter = Reporter(Places(values={("b",): Position("a", 2, 1), ("c",): Position("a", 1, 9)}))
    for path in ("b", "c", "b"):
        reporter.error("E201", (path,), path)
    assert [d.message for d in reporter.diagnostics] == ["c", "b"]
    assert in_order(reporter.diagnostics) == reporter.diagnostics


def test_what_rests_on_a_refused_value_is_not_said() -> None:
    reporter = Reporter(places(), unreliable=[("task",), ("batch", "tokens")])
    reporter.error("E402", ("metrics",), "does not fit the task", because=[("task",)])
    reporter.error("E206", ("batch",), "a parent of what was refused")
    assert not reporter.failed
    reporter.error("E403", ("metrics",), "stands alone")
    assert reporter.failed


def test_a_short_form_is_named_as_it_was_written() -> None:
    reporter = Reporter(Places(spelled={("data", "train", 0): ("data", "train")}))
    assert reporter.spelled(("data", "train", 0, "files", 2)) == "data.train.files[2]"
    assert reporter.spelled(("data", "test")) == "data.test"


def test_wording() -> None:
    assert dotted(("data", "train", 0, "files")) == "data.train[0].files"
    assert did_you_mean("lerning_rate", ["learning_rate", "schedule"]) == "learning_rate"
    assert did_you_mean("rouge_2", ["rouge1", "rouge2", "rougeLsum"]) == "rouge2"
    assert did_you_mean("zzz", ["learning_rate"]) == ""
    assert [listed("a"), listed("abc"), listed([])] == ["a", "a, b or c", "none"]
    assert [quoted(None), quoted(True), quoted({"a": [1]})] == ["null", "true", "{a: [1]}"]
    assert len(quoted("x" * 500)) <= 62
