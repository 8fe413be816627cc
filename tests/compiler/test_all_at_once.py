"""One mistake hides no other: what can be judged is judged, and what rests on a mistake is not told."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_texts import TINY

from distilc.compiler.extensions.families import FAMILIES
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.resolve.site import SiteOptions, load_site
from distilc.compiler.tasks.task import TASKS
from distilc.runtime.extensions import entries

LOST = "lost.jsonl"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    Path("base.yaml").write_text(TINY, "utf-8")


def told(text: str) -> list[tuple[str, str, str]]:
    """Code, path and hint of everything that `check` says of a spec."""
    Path("spec.yaml").write_text(text, "utf-8")
    site = load_site(SiteOptions(offline=True)).site
    assert site is not None
    compiled = compile_spec(Path("spec.yaml"), (), site)
    _, compiled = lower_runs(compiled, site, fingerprints=False)
    return [(found.code, found.path, found.hint) for found in compiled.diagnostics]


def codes(text: str) -> list[tuple[str, str]]:
    return sorted((code, path) for code, path, _ in told(f"extends: base.yaml\ndata: {{train: {{files: {LOST}}}}}\n{text}"))


NO_FILE = ("E508", "data.train.files")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the teacher has 4 layers
        ("student: {encoder_layer: 6, decoder_layers: 9}\n", [("E201", "student.encoder_layer"), ("E521", "student.decoder_layers")]),
        ("student: {freez: none, decoder_layers: 9}\n", [("E201", "student.freez"), ("E521", "student.decoder_layers")]),
        ("student: {d_model: wide, decoder_layers: 9}\n", [("E203", "student.d_model"), ("E521", "student.decoder_layers")]),
        ("task: sumarization\nstudent: {decoder_layers: 9}\n", [("E204", "task"), ("E521", "student.decoder_layers")]),
        ("teacher: {trian: {}}\nstudent: {decoder_layers: 9}\n", [("E201", "teacher.trian"), ("E521", "student.decoder_layers")]),
        ("pseudo_labels: {own: {byy: teacher}}\ntargets: [own]\nstudent: {decoder_layers: 9}\n",
         [("E201", "pseudo_labels.own.byy"), ("E521", "student.decoder_layers")]),
        # what rests on a mistake is not told: whether three layers fit, of a student of how many?
        ("student: {decoder_layers: two}\nloss: {hidden: {decoder: 1}}\nphi: {decoder: [0, 1, 3]}\n",
         [("E203", "student.decoder_layers")]),
        ("student: {decoder_layers: two, init: {decoder: {layers: [0, 1, 3]}}}\n", [("E203", "student.decoder_layers")]),
        ("student: {d_model: 47, heads: many, init: {embeddings: random, encoder: random, decoder: random}}\n",
         [("E203", "student.heads")]),
        ("student: {init: {decoder: {layers: fist}}, decoder_layers: 2}\n", [("E204", "student.init.decoder.layers")]),
        # a teacher that is not known has no number of layers; the rest is judged
        ("teacher: {architecture: {family: brat}}\nstudent: {decoder_layers: 999}\n", [("E204", "teacher.architecture.family")]),
        ("teacher: {mlflow: 'models:/a/1'}\nteacher_: 1\n", [("E201", "teacher_"), ("E401", "teacher.mlflow")]),
        ("teacher: {path: ./nowhere}\nstopping: {retention: {rouge9: 9}}\n", [("E201", "stopping.retention.rouge9"), ("E501", "teacher.path")]),
    ],
)  # fmt: skip
def test_a_structural_mistake_hides_no_independent_one(text: str, expected: list[tuple[str, str]]) -> None:
    found = [(code, path) for code, path in codes(text) if code[0] == "E" and code != "E508"]
    assert found == sorted(expected)
    assert any(code == "E508" for code, _ in codes(text))


@pytest.mark.parametrize(
    ("teacher", "codes", "typed"),
    [
        ("{model: facebook/bart-large-xsum}", ["E207"], "{hub: facebook/bart-large-xsum}"),
        ("{model: ./mine}", ["E207"], "{path: ./mine}"),
        ("{checkpoint: a/b, train: {}}", ["E201"], "{hub: a/b}"),
        ("{model_name_or_path: a/b}", ["E201"], "{hub: a/b}"),
        ("{model: student}", ["E207"], "add `spec`"),
        ("{spec: other.yaml, model: a/b}", ["E204"], ""),
    ],
)
def test_a_model_called_by_another_name_is_answered_with_ours(teacher: str, codes: list[str], typed: str) -> None:
    start = TINY.index("teacher:")
    base = TINY[:start] + TINY[TINY.index("student:") :]
    found = told(f"{base}teacher: {teacher}\n")
    assert [code for code, _, _ in found] == codes and typed in found[0][2]


def test_every_task_and_family_can_be_run() -> None:
    """The two halves know the same."""
    assert set(entries("tasks")) == set(TASKS) and set(entries("families")) == set(FAMILIES)
