"""Text -> tree: values of YAML 1.2, positions, and everything that is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.diagnostics.diagnostic import Places, Position, Reporter
from distilc.compiler.spec.parse import decode, flatten, parse, read_source


def codes_of(text: str) -> list[tuple[str, int, int]]:
    reporter = Reporter(Places())
    parse(text, "a.yaml", reporter)
    return [(found.code, found.line, found.column) for found in reporter.diagnostics]


def value_of(text: str) -> Any:
    reporter = Reporter(Places())
    tree = parse(text, "a.yaml", reporter)
    assert tree is not None and not reporter.diagnostics, reporter.diagnostics
    return flatten(tree, Places())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4), ("010", 10), ("0x1F", 31), ("0o17", 15), ("-3", -3), ("1.", 1.0), (".5", 0.5),
        ("no", "no"), ("on", "on"), ("12:30:45", "12:30:45"), ("2020-01-01", "2020-01-01"), ("1_000", "1_000"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("'7'", "7"), ('"a\\tb"', "a\tb"),
        ("9223372036854775807", 2**63 - 1), ("!!str 7", "7"), ("1e", "1e"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = value_of(f"a: {text}\n")["a"]
    assert found == value and type(found) is type(value)


def test_positions_of_keys_and_values() -> None:
    text = "a: 1\nb:\n  - x: {y: 2}\n  - é: 😀 z\n"
    reporter, places = Reporter(Places()), Places()
    tree = parse(text, "a.yaml", reporter)
    assert tree is not None
    flatten(tree, places)
    assert places.values[("b", 0, "x", "y")] == Position("a.yaml", 3, 12)
    assert places.keys[("b", 0, "x", "y")] == Position("a.yaml", 3, 9)
    assert places.keys[("b", 1, "é")] == Position("a.yaml", 4, 5)
    assert places.values[("b", 1, "é")] == Position("a.yaml", 4, 8)
    assert places.values[("a",)] == Position("a.yaml", 1, 4)


def test_an_alias_stands_where_it_is_used_and_its_inside_where_it_was_written() -> None:
    reporter, places = Reporter(Places()), Places()
    tree = parse("a: &x {b: 1}\nc: *x\n", "a.yaml", reporter)
    assert tree is not None
    assert flatten(tree, places) == {"a": {"b": 1}, "c": {"b": 1}}
    assert places.values[("c",)].line == 2
    assert places.values[("c", "b")] == Position("a.yaml", 1, 11)
    assert places.keys[("c",)] == Position("a.yaml", 2, 1)


def test_windows_and_old_mac_line_ends() -> None:
    reporter = Reporter(Places())
    assert decode(b"\xef\xbb\xbfa: 1\r\nb: 2\rc: 3\n", "a.yaml", reporter) == "a: 1\nb: 2\nc: 3\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", [("E107", 3, 1)]),
        ("a: !!python/object:os.system x\n", [("E108", 1, 4)]),
        ("a: *b\n", [("E109", 1, 4)]),
        ("a: &a [*a]\n", [("E109", 1, 8)]),
        ("a: 1\n---\nb: 2\n", [("E110", 2, 1)]),
        ("", [("E111", 1, 1)]),
        ("# only a comment\n", [("E111", 1, 1)]),
        ("- a\n", [("E111", 1, 1)]),
        ("just text\n", [("E111", 1, 1)]),
        ("1: a\n", [("E112", 1, 1)]),
        ("? [a]\n: b\n", [("E112", 1, 3)]),
        ("a: 12e4567\nb: .nan\nc: -.inf\nd: 99999999999999999999\n",
         [("E113", 1, 4), ("E113", 2, 4), ("E113", 3, 4), ("E113", 4, 4)]),
        ("a: " + "[" * 60 + "]" * 60 + "\n", [("E114", 1, 53)]),
        ("a:\n\tb: 1\n", [("E106", 2, 1)]),
        ("a:\n  b: 1\n \t c: 1\n", [("E106", 3, 2)]),
        ("a: [1, 2\nb: 3\n", [("E105", 2, 2)]),
        ('a: "x\nb: 1\n', [("E105", 2, 5)]),
        ("a: @x\n", [("E105", 1, 4)]),
        ("%YAML 1.1\n---\na: 1\n", [("E116", 2, 1)]),
        ("a: {<<: {b: 1}}\n", [("E115", 1, 5)]),
    ],
)  # fmt: skip
def test_refused(text: str, found: list[tuple[str, int, int]]) -> None:
    assert codes_of(text) == found


def test_mistakes_that_leave_the_rest_readable_are_all_told() -> None:
    assert codes_of("a: 1\na: 2\nb: !x 1\nc: .inf\n2: x\n") == [
        ("E107", 2, 1), ("E108", 3, 4), ("E113", 4, 4), ("E112", 5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000)),
        "a: [" + "x," * 25_000 + "]\n",
    ],
    ids=["billion laughs", "deep chain", "many values"],
)
def test_bombs_are_refused_quickly(text: str) -> None:
    before = time.perf_counter()
    found = codes_of(text)
    assert found[0][0] in ("E109", "E114")
    assert time.perf_counter() - before < 10


@pytest.mark.parametrize(
    ("content", "code", "line", "column"),
    [
        (b"a: 1\nb: \xff\n", "E103", 2, 4),
        (b"\xff\xfea\x00:\x00", "E103", 1, 1),
        (b"a: 1\nb: x\x00y\n", "E104", 2, 5),
        ("a: x\u2028y\n".encode(), "E104", 1, 5),
        ("é: \x85\n".encode(), "E104", 1, 4),
    ],
)
def test_bytes_that_are_no_text(content: bytes, code: str, line: int, column: int, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    reporter = Reporter(Places())
    assert read_source(file, "a.yaml", reporter, {}) is None
    (found,) = reporter.diagnostics
    assert (found.code, found.line, found.column) == (code, line, column)


def test_the_offset_of_a_wrong_byte_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    reporter = Reporter(Places())
    read_source(file, "a.yaml", reporter, {})
    assert "offset 8 (line 2)" in reporter.diagnostics[0].message


def test_a_file_of_more_than_a_mebibyte_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"# x\n" * 300_000)
    reporter = Reporter(Places())
    assert read_source(file, "a.yaml", reporter, {}) is None
    (found,) = reporter.diagnostics
    assert (found.code, found.message) == ("E102", "the file has 1,200,000 bytes, more than 1,048,576")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("a: 1")
    for name, hint in (("spek.yaml", "did you mean"), ("spek.yaml", "spec.yaml?"), ("zzz.yaml", ""), ("", "")):
        reporter = Reporter(Places())
        assert read_source(tmp_path / name, name, reporter, {}) is None
        assert reporter.diagnostics[0].code == "E101"
        assert hint in reporter.diagnostics[0].hint
        assert bool(hint) == bool(reporter.diagnostics[0].hint)


def told(text: str) -> list[tuple[str, str]]:
    reporter = Reporter(Places())
    parse(text, "a.yaml", reporter)
    return [(d.message, d.hint) for d in reporter.diagnostics]


@pytest.mark.parametrize("text", ["a: {b: 1}}", "{a: 1}}", "a: [1]]", "a: 1\nb: {c: [1]}]\n"])
def test_a_bracket_too_many(text: str) -> None:
    bracket = text.rstrip()[-1]
    message = "not valid YAML: an unmatched closing bracket"
    assert told(text) == [(message, f"remove this `{bracket}`, or open one before it")]


def test_a_long_list_is_not_blamed_on_its_brackets() -> None:
    ((message, hint),) = told(f"seeds: {list(range(21_000))}")
    assert "more than 20,000 values" in message and "`matrix`" in hint and "bracket" not in hint


def test_what_a_merge_key_takes_in_stands_where_it_is_written() -> None:
    reporter, places = Reporter(Places()), Places()
    tree = parse("a: &x {b: 1}\nc: {<<: *x, d: 2}", "a.yaml", reporter)
    assert tree is not None and [d.code for d in reporter.diagnostics] == ["E115"]
    assert flatten(tree, places) == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
    assert (places.keys["c", "b"].line, places.keys["c", "b"].column) == (2, 5)
    assert places.keys["a", "b"].line == 1
