"""Whatever stands in a spec, lies at a path or is missing in the environment: `check` and its relatives answer with
diagnostics or usage, never with a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from spec_texts import TINY

from distilc.compiler.cli import distilc
from distilc.compiler.spec.structure import load_schema

FORMATS = ("text", "json", "github")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    Path("spec.yaml").write_text(TINY, "utf-8")
    return tmp_path


def answered(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command that knew what to say."""
    result = CliRunner().invoke(distilc, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    assert result.exit_code in (0, 1, 2)
    return result.exit_code, result.output


def codes(*overrides: str, command: str = "check") -> set[str]:
    words = [word for override in overrides for word in ("--set", override)]
    _, said = answered(command, "spec.yaml", "--offline", *words)
    return set(re.findall(r"^\S.*?: ([EW]\d{3}):", said, re.MULTILINE))


# --- numbers ---------------------------------------------------------------------------------------


def numbers(name: str) -> Iterator[tuple[str, Any]]:
    """The path of every number of a schema, and its fragment."""
    schema = load_schema(name)

    def visit(fragment: Any, path: tuple[str, ...], seen: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if (reference := fragment.get("$ref")) in seen and reference:
            return
        seen = (*seen, reference) if reference else seen
        whole = schema.resolve(fragment)
        for branch in whole.get("anyOf", ()):
            yield from visit(branch, path, seen)
        if {"integer", "number"} & set(schema.kinds(whole)) and "type" in whole:
            yield ".".join(path), whole
        for key, below in whole.get("properties", {}).items():
            if key not in ("variants", "matrix"):
                yield from visit(below, (*path, key), seen)

    yield from visit(schema.root, (), ())


@pytest.mark.parametrize("name", ["experiment", "site"])
def test_every_number_of_the_language_has_its_bounds(name: str) -> None:
    """What is unbounded overflows where it is multiplied."""
    found = list(numbers(name))
    assert len(found) > (100 if name == "experiment" else 6)
    for path, fragment in found:
        assert "const" in fragment or {"maximum", "exclusiveMaximum"} & set(fragment), path
        assert "const" in fragment or {"minimum", "exclusiveMinimum"} & set(fragment) or "retention" in path, path


@pytest.mark.slow
def test_no_number_anywhere_is_a_traceback() -> None:
    paths = sorted({path for path, _ in numbers("experiment") if path})
    for path in paths:
        codes(f"{path}=0x7fffffffffffffff")
        assert codes(f"{path}=1e308"), path


@pytest.mark.parametrize("command", ["check", "explain", "compile"])
@pytest.mark.parametrize(
    "override",
    ["stopping.max_epochs=1e6", "stopping.max_epochs=5e-324", "loss.labels=1e30", "loss.labels=1e-320",
     "data.train.limit=1000000000000", "stopping.max_steps=1000000000000", "batch.examples=1000000000000",
     "batch.tokens=1000000000000", "validation.every={epochs: 5e-324}", "validation.every={epochs: 1e6}",
     "training.warmup={steps: 1000000000000}", "evaluation.speed.batch_size=1000000000000", "seeds=[4294967295]",
     "training.learning_rate=1e30", "evaluation.generation.length_penalty=-1e30", "data.max_source_tokens=1000000",
     "stopping.max_hours=5e-324", "student.decoder_layers=1000"],
)  # fmt: skip
def test_numbers_at_their_bounds(command: str, override: str) -> None:
    answered(command, "spec.yaml", "--offline", "--set", override)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999", "9" * 50, "0x" + "f" * 40, "1e-999"])
def test_numbers_that_are_none(value: str) -> None:
    for command in ("check", "explain", "compile"):
        answered(command, "spec.yaml", "--offline", "--set", f"training.learning_rate={value}")
    assert codes(f"training.learning_rate={value}") & {"E113", "E205"}


# --- places ----------------------------------------------------------------------------------------

LONG, DEEP = "a" * 300, "/".join(["d" * 100] * 60)
PLACES = [
    "loop", "loop/x.jsonl", "loop.jsonl", "dangling", "folder", "folder.jsonl", "file", "file/x.jsonl", f"{LONG}.jsonl",
    DEEP, ".", "/", "/dev/null", "/proc/1/root/x", '"a\\0b.jsonl"', '"\\ud800.jsonl"', '"a\\nb.jsonl"', "~/x.jsonl",
    "~nobody/x", '"${paths.X}/a.jsonl"', "é.jsonl", '" "',
]  # fmt: skip
SLOTS = [
    ("data.train.files=[{}]",), ("teacher={{path: {}}}",), ("teacher={{spec: {}}}",), ("baselines={{b: {{predictions: {}}}}}",),
    ("student.init.encoder={{from: {{path: {}}}}}",), ("pseudo_labels={{own: {{file: {}}}}}", "targets=[own]"),
]  # fmt: skip


@pytest.fixture
def places() -> None:
    for link, to in (("loop", "loop"), ("loop.jsonl", "loop"), ("dangling", "nowhere")):
        os.symlink(to, link)
    Path("folder").mkdir()
    Path("folder.jsonl").mkdir()
    Path("file").write_text("x", "utf-8")


@pytest.mark.parametrize("slot", SLOTS, ids=[slot[0].partition("=")[0] for slot in SLOTS])
@pytest.mark.parametrize("command", [["check"], ["check", "--data"], ["explain"], ["compile"]], ids=" ".join)
@pytest.mark.usefixtures("places")
def test_places_of_a_spec(slot: tuple[str, ...], command: list[str]) -> None:
    for place in PLACES:
        sets = [word for one in slot for word in ("--set", one.format(place))]
        code, _ = answered(*command, "spec.yaml", "--offline", "--path", "X=loop", *sets)
        assert code == 1, place


@pytest.mark.usefixtures("places")
def test_a_circle_of_links_is_told_as_such() -> None:
    _, said = answered("check", "spec.yaml", "--set", "data.train.files=[loop]", "--set", "data.test.files=[dangling]")
    assert "E508: the data file loop cannot be reached: Too many levels of symbolic links" in said
    assert "E508: the data file dangling is a broken link" in said


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.usefixtures("places")
def test_places_of_the_command_line(form: str) -> None:
    for place in ["loop", "dangling", "folder", "file", "file/x", LONG, DEEP, "/proc/1/root/x", "a\nb", "", "é", "*"]:
        for words in (["check", place, "--format", form], ["check", "spec.yaml", "--format", form, "--site", place],
                      ["check", "spec.yaml", "--format", form, "--models", place]):  # fmt: skip
            answered(*words, "--offline")
        if form == "text":
            for words in (["explain", place], ["compile", place], ["diff", place, "spec.yaml"], ["diff", "spec.yaml", place],
                          ["explain", "spec.yaml", "--workspace", place], ["compile", "spec.yaml", "-o", place],
                          ["explain", "spec.yaml", "--why", place], ["explain", "spec.yaml", "--only", place]):  # fmt: skip
                answered(*words, "--offline")
        for variable in ("DISTILC_SITE", "XDG_CONFIG_HOME", "HOME", "HF_HOME", "XDG_CACHE_HOME"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(variable, place)
                answered("check", "spec.yaml", "--format", form, "--set", "teacher={hub: a/b}", "--offline")
    for place in ("loop", "dangling/x", "folder", "file/x", LONG, "/proc/1/root/x"):
        assert answered("init", place)[0] in (1, 2)


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` says what `compile` would."""
    row = json.dumps({"source": "a b c", "target": "b"})
    Path("rows.jsonl").write_text(f"{row}\n" * 3, "utf-8")
    sets = ["data.train.files=[rows.jsonl]", "data.columns={source: source, target: target}"]
    assert codes(*sets) == set()
    if os.geteuid() == 0:  # who may read everything
        real = os.open

        def refused(path: Any, *rest: Any, **more: Any) -> int:
            if str(path).endswith("rows.jsonl"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest, **more)

        monkeypatch.setattr(os, "open", refused)
    else:
        os.chmod("rows.jsonl", 0)
    assert codes(*sets) == codes(*sets, command="compile") == {"E508"}


# --- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (TINY.encode("utf-8-sig"), None),
        (TINY.replace("\n", "\r\n").encode(), None),
        (TINY.encode("utf-16"), "E103"),
        (TINY.encode("utf-16-le"), "E104"),
        (TINY.replace("name: x", "name: é").encode("latin-1"), "E103"),
        (TINY.encode() + b"\0", "E104"),
        (TINY.encode() + b"evaluation: {generation: {engine: \"\\ud800\"}}\n", "E104"),
        (TINY.replace("{builtin: bulletins}", '{files: "\\uD83D\\uDE00.jsonl"}').encode(), "E508"),
        (b"\xff\xfe", "E103"),
        (b"", "E111"),
        (b"\xef\xbb\xbf", "E111"),
    ],
)  # fmt: skip
def test_encodings(content: bytes, code: str | None, form: str) -> None:
    Path("spec.yaml").write_bytes(content)
    _, said = answered("check", "spec.yaml", "--format", form)
    assert (code in said) if code is not None else ("E1" not in said and "E5" not in said), said
    answered("explain", "spec.yaml")
    answered("compile", "spec.yaml")


def test_two_escapes_of_one_character_are_that_character() -> None:
    Path("spec.yaml").write_text(TINY.replace("{builtin: bulletins}", '{files: "\\uD83D\\uDE00.jsonl"}'), "utf-8")
    assert "the data file \U0001f600.jsonl does not exist" in answered("check", "spec.yaml")[1]


# --- the environment -------------------------------------------------------------------------------


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's number that is in no table of users."""
    import pwd

    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    Path("site.yaml").write_text("workspace: ~/w\nshared_stores: [~/s]\n", "utf-8")
    for words in (["check"], ["explain"], ["compile"], ["check", "--set", "teacher={hub: a/b}"],
                  ["check", "--path", "X=~/x"], ["explain", "--site", "site.yaml"]):  # fmt: skip
        code, said = answered(words[0], "spec.yaml", "--offline", *words[1:])
        assert code == 0, said
    answered("diff", "~/a", "spec.yaml")
    monkeypatch.setenv("DISTILC_SITE", "~/site.yaml")
    assert "E101" in answered("check", "spec.yaml")[1]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("mkdir gone; cd gone; rmdir ../gone; {} check x", 1, "the current folder cannot be used"),
        ("mkdir gone; cd gone; rmdir ../gone; {} schema", 1, "the current folder cannot be used"),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {} check bad.yaml", 1, "E208"),
        ("LC_ALL=nowhere {} check bad.yaml", 1, "E208"),
        ("PYTHONIOENCODING=ascii {} explain spec.yaml", 0, "spec"),
        ("env -i {} check spec.yaml", 0, "ok"),
    ],
)
def test_the_process_around(line: str, code: int, words: str) -> None:
    Path("bad.yaml").write_text("name: é\nextends: spec.yaml\n", "utf-8")
    command = f"{shlex.quote(sys.executable)} -m distilc.compiler"
    done = subprocess.run(["bash", "-c", line.format(command)], capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == code and "Traceback" not in said and (words in said or words == "spec"), said


def test_the_compiler_asks_for_paths_in_a_way_that_raises_nothing() -> None:
    """pathlib's own questions raise for names that are too long, folders that may not be entered, circles of links,
    and users without a home; those of os.path answer."""
    root = Path(__file__).parents[2] / "compiler"
    asking = re.compile(r"\.(?:is_file|is_dir|exists|expanduser)\(\)|Path\.home\(\)|(?<!schema)(?<!self)\.resolve\(\)")
    own = re.compile(r"Path\(__file__\)\.resolve\(\)")
    for file in root.rglob("*.py"):
        if file.parent.name != "extensions" and file.name != "machine.py":  # not of users: of the installation
            found = [line for line in file.read_text("utf-8").splitlines() if asking.search(line) and not own.search(line)]
            assert not found, (file, found)
