"""Files and options -> one tree: extends, short forms, --set, file locations; positions all the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.diagnostics.diagnostic import Diagnostic, Places, Position, Reporter
from distilc.compiler.spec.compose import compose
from distilc.compiler.spec.merging import clean
from distilc.compiler.spec.overrides import assign, split_path
from distilc.compiler.spec.parse import Files, flatten
from distilc.compiler.spec.paths import Locator
from distilc.compiler.spec.structure import load_schema

SCHEMA = load_schema("experiment")


class Composed:
    """What came of the files in a folder."""

    def __init__(self, overrides: tuple[str, ...] = (), paths: Mapping[str, Path] | None = None) -> None:
        files = Files()
        reporter = Reporter(Places(chains=files.chains))
        composed = compose(Path("spec.yaml"), overrides, SCHEMA, files, reporter)
        self.places = Places(chains=files.chains)
        self.tree: Any = None
        if composed is not None:
            tree = composed.tree
            for assignment in composed.later:
                tree = assign(tree, assignment.steps, assignment.value, SCHEMA, SCHEMA.root, reporter)
            locator = Locator(SCHEMA, paths or {}, files.folders, reporter, files.refused)
            self.tree = flatten(locator.locate(clean(tree, SCHEMA, SCHEMA.root), SCHEMA.root), self.places)
        self.diagnostics: list[Diagnostic] = reporter.diagnostics
        self.files = files
        self.reporter = Reporter(self.places)

    def place(self, *path: str | int) -> tuple[str, int, int]:
        place = self.reporter.place(path)
        return place.file, place.line, place.column


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**files: str) -> None:
    for name, text in files.items():
        Path(f"{name}.yaml").write_text(text, "utf-8")


def test_mappings_merge_lists_and_scalars_replace() -> None:
    write(
        base="stopping: {max_epochs: 5, patience: 4}\nseeds: [1, 2]\nname: base\n",
        spec="extends: base.yaml\nstopping: {patience: 2}\nseeds: [3]\n",
    )
    found = Composed()
    assert found.tree == {"name": "base", "stopping": {"max_epochs": 5, "patience": 2}, "seeds": [3]}
    assert found.place("stopping", "max_epochs") == ("base.yaml", 1, 24)
    assert found.place("stopping", "patience") == ("spec.yaml", 2, 22)


def test_a_list_of_bases_the_later_wins_and_the_chain_is_known() -> None:
    Path("sub").mkdir()
    write(a="name: a\ntask: translation\nextends: sub/c.yaml\n", b="name: b\n", spec="extends: [a.yaml, b.yaml]\n")
    Path("sub/c.yaml").write_text("precision: fp32\nname: c\n")
    found = Composed()
    assert found.tree == {"name": "b", "task": "translation", "precision": "fp32"}
    assert found.files.chains["sub/c.yaml"] == ("a.yaml", "spec.yaml")


def test_null_removes_where_null_is_no_value() -> None:
    write(
        base="loss: {labels: 1.0, logits: 0.8}\nstopping: {max_epochs: 5, monitor: loss}\nbatch: {tokens: 9}\n",
        spec="extends: base.yaml\nloss: {logits: null}\nstopping: {max_epochs: null, monitor: null}\nbatch: null\n",
    )
    assert Composed().tree == {"loss": {"labels": {"weight": 1.0}}, "stopping": {"max_epochs": None}}


def test_null_does_not_hide_a_misspelt_or_a_required_key() -> None:
    write(spec="training: {lerning_rate: null}\ntask:\n")
    assert Composed().tree == {"training": {"lerning_rate": None}, "task": None}


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        # another kind replaces the whole one
        ("teacher: {hub: a/b, revision: x}", "teacher: {path: /m}", {"path": "/m"}),
        ("batch: {examples: 64}", "batch: {tokens: 9}", {"tokens": 9}),
        # the same kind, another one: its revision goes with it
        ("teacher: {hub: a/b, revision: x}", "teacher: {hub: c/d}", {"hub": "c/d"}),
        ("teacher: a/b", "teacher: c/d", {"hub": "c/d"}),
        # what does not name a kind merges
        ("teacher: {hub: a/b}", "teacher: {revision: x}", {"hub": "a/b", "revision": "x"}),
        (
            "teacher: {architecture: {d_model: 8, heads: 2}, tokenizer: {vocab_size: 500}}",
            "teacher: {architecture: {d_model: 16}}",
            {"architecture": {"d_model": 16, "heads": 2}, "tokenizer": {"vocab_size": 500}},
        ),
    ],
)
def test_mappings_of_several_kinds(base: str, over: str, merged: dict[str, Any]) -> None:
    write(base=base, spec=f"extends: base.yaml\n{over}\n")
    assert next(iter(Composed().tree.values())) == merged


def test_short_forms_are_spelled_out_and_named_as_written() -> None:
    write(spec="teacher: ./m\nloss: {labels: 1}\ndata: {train: {files: a.jsonl}, test: {builtin: bulletins}}\n")
    found = Composed()
    here = str(Path.cwd())
    assert found.tree == {
        "teacher": {"path": f"{here}/m"},
        "loss": {"labels": {"weight": 1}},
        "data": {"train": [{"files": [f"{here}/a.jsonl"]}], "test": {"test": [{"builtin": "bulletins"}]}},
    }
    assert found.reporter.spelled(("data", "train", 0, "files", 0)) == "data.train.files"
    assert found.reporter.spelled(("data", "test", "test", 0, "limit")) == "data.test.limit"
    assert found.place("data", "train", 0, "files", 0) == ("spec.yaml", 3, 23)


def test_named_test_sets_and_one_without_a_name_replace_each_other() -> None:
    write(
        base="data: {test: {builtin: bulletins}}\n",
        spec="extends: base.yaml\ndata: {test: {a: {files: /a}, b: [{files: /b}]}}\n",
    )
    assert set(Composed().tree["data"]["test"]) == {"a", "b"}


def test_a_single_source_merges_and_a_list_replaces() -> None:
    write(
        base="data: {train: {files: /a}, test: {files: /c}, validation: [{files: /v}]}\n",
        spec="extends: base.yaml\ndata: {train: {limit: 3}, test: {limit: 4}, validation: {limit: 5}}\n",
    )
    assert Composed().tree["data"] == {
        "train": [{"files": ["/a"], "limit": 3}],
        "test": {"test": [{"files": ["/c"], "limit": 4}]},
        "validation": [{"limit": 5}],
    }


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("stopping.max_epochs=3", ("stopping", "max_epochs"), 3),
        ("teacher.path=/m", ("teacher",), {"path": "/m"}),
        ("batch.examples=3", ("batch",), {"examples": 3}),
        ("data.train.limit=7", ("data", "train"), [{"files": ["/t"], "limit": 7}]),
        ("data.train[0].limit=7", ("data", "train"), [{"files": ["/t"], "limit": 7}]),
        ("data.test.limit=7", ("data", "test"), {"test": [{"files": ["/e"], "limit": 7}]}),
        ("data.test.files=/f", ("data", "test"), {"test": [{"files": ["/f"]}]}),
        ("data.validation[1].limit=7", ("data", "validation", 1), {"files": ["/w"], "limit": 7}),
        ("loss.labels=2", ("loss", "labels"), {"weight": 2}),
        ("student.init.decoder.layers=[0, 1]", ("student", "init", "decoder", "layers"), [0, 1]),
        ("tracking.tags={a: b}", ("tracking", "tags"), {"a": "b"}),
        ("name=a=b", ("name",), "a=b"),
    ],
)
def test_set(override: str, path: tuple[str | int, ...], value: object) -> None:
    write(
        spec="teacher: {hub: a/b}\nbatch: {tokens: 8}\nname: x\n"
        "data: {train: {files: /t}, test: {files: /e}, validation: [{files: /v}, {files: /w}]}\n"
    )
    found = Composed((override,))
    assert not found.diagnostics
    tree = found.tree
    for step in path:
        tree = tree[step]
    assert tree == value


def test_set_is_a_file_of_its_own_in_messages() -> None:
    write(spec="name: x\n")
    found = Composed(("name=y", "stopping.patience=soon"))
    assert found.place("stopping", "patience") == ("--set", 2, 19)
    assert found.place("name") == ("--set", 1, 6)
    assert found.place("teacher") == ("spec.yaml", 1, 1)
    assert found.files.texts["--set"] == "name=y\nstopping.patience=soon"


@pytest.mark.parametrize(
    ("override", "column"),
    [("name.x.y[0]=1", 0), ("seeds[4]=1", 6), ("seeds.a=1", 7), ("seeds[0].a=1", 10), ("[0]=1", 1), ("a..b=1", 1),
     ("=1", 1), ("data[0]=1", 5)],
)  # fmt: skip
def test_set_paths_that_lead_nowhere(override: str, column: int) -> None:
    write(spec="name: x\nseeds: [1, 2]\ndata: {train: {files: /t}}\n")
    found = Composed((override,))
    if column:
        assert [(d.code, d.file, d.column) for d in found.diagnostics] == [("E305", "--set", column)]
    else:  # the value becomes a mapping, which the schema refuses
        assert isinstance(found.tree["name"], dict)


def test_set_of_broken_yaml() -> None:
    write(spec="name: x\n")
    (found,) = Composed(("seeds=[1,",)).diagnostics
    assert (found.code, found.file, found.line) == ("E105", "--set", 1)


def test_locations_are_relative_to_the_file_that_wrote_them() -> None:
    Path("sub").mkdir()
    Path("sub/base.yaml").write_text("data: {train: {files: [a.jsonl, /b.jsonl, '${paths.c}/d']}, test: {files: x}}\n")
    write(spec="extends: sub/base.yaml\ndata: {test: {files: y}}\n")
    here = Path.cwd()
    data = Composed(("data.validation={files: z}",), {"c": Path("/c")}).tree["data"]
    assert data["train"][0]["files"] == [f"{here}/sub/a.jsonl", "/b.jsonl", "/c/d"]
    assert data["test"]["test"][0]["files"] == [f"{here}/y"]
    assert data["validation"][0]["files"] == [f"{here}/z"]


def test_an_unknown_path_names_the_known_ones() -> None:
    write(spec='data: {train: {files: "${paths.multi3k}/a"}, test: {files: "${HOME}/a"}}\nname: ${paths.x}\n')
    first, second, third = Composed(paths={"multi30k": Path("/m"), "xsum": Path("/x")}).diagnostics
    assert (first.code, first.path, first.column) == ("E303", "data.train.files", 23)
    assert "known: multi30k and xsum" in first.message
    assert "did you mean ${paths.multi30k}?" in first.hint and "--path multi3k=FOLDER" in first.hint
    assert (second.code, second.hint) == ("E303", "only ${paths.NAME} is substituted")
    assert (third.code, third.line) == ("E304", 2)


def test_extends_that_cannot_be_followed() -> None:
    write(
        a="extends: b.yaml\n", b="extends: a.yaml\n", broken="x: [\n",
        spec="extends: [a.yaml, nowhere.yaml, 7, broken.yaml]\nname: x\n",
    )  # fmt: skip
    found = Composed()
    assert [(d.code, d.file, d.line) for d in found.diagnostics] == [
        ("E302", "b.yaml", 1), ("E105", "broken.yaml", 1), ("E301", "spec.yaml", 1), ("E203", "spec.yaml", 1),
    ]  # fmt: skip
    assert found.tree == {"name": "x"}
    assert not found.files.complete
    assert found.diagnostics[0].chain == ("a.yaml", "spec.yaml")


def test_split_path() -> None:
    place = Position("--set", 3, 1)
    found = split_path("data.train[12].limit", place)
    assert found is not None and [(step, where.column) for step, where in found] == [
        ("data", 1), ("train", 6), (12, 11), ("limit", 16),
    ]  # fmt: skip
    assert split_path("a b", place) == [("a b", place)]
    for wrong in ("", ".", "a.", ".a", "a[x]", "a[0", "[1]"):
        assert split_path(wrong, place) is None
