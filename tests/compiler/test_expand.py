"""A spec -> its runs: variants, matrix, seeds, and what is expected of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spec_texts import TINY

from distilc.compiler.diagnostics.diagnostic import render_github, render_json, render_text
from distilc.compiler.pipeline import Compiled, compile_spec, lower_runs
from distilc.compiler.resolve.site import Site, SiteOptions, load_site
from distilc.compiler.spec import expand

BASE = TINY.replace("decoder_layers: 4", "decoder_layers: 6")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)


def site() -> Site:
    found = load_site(SiteOptions(offline=True)).site
    assert found is not None
    return found


def compiled(text: str, *overrides: str, base: str = BASE) -> Compiled:
    Path("spec.yaml").write_text(base + text, "utf-8")
    return compile_spec(Path("spec.yaml"), overrides, site())


def runs(text: str, *overrides: str, base: str = BASE) -> dict[str, Any]:
    """Label -> typed run, of a spec that is right."""
    found = compiled(text, *overrides, base=base)
    assert not found.failed, render_text(found.diagnostics, found.texts)
    assert len({run.experiment.name for run in found.runs}) == len(found.runs)
    return {run.label: run.experiment for run in found.runs}


def test_a_spec_without_variants_is_one_run() -> None:
    found = runs("")
    assert [(label, run.name, run.variant, run.seed) for label, run in found.items()] == [("", "x", None, 42)]


def test_variants_are_laid_over_the_spec() -> None:
    found = runs(
        "loss: {labels: 1.0, logits: 0.8}\nstopping: {max_epochs: 3, patience: 2}\n"
        "variants:\n  sft: {loss: {logits: null}, stopping: {patience: null}}\n  kd: {}\n"
        "  small: {student: {decoder_layers: 1}, batch: {tokens: 500}}\n"
    )
    assert [run.name for run in found.values()] == ["x-sft", "x-kd", "x-small"]
    assert [run.variant for run in found.values()] == ["sft", "kd", "small"]
    assert [run.training.loss.needs_teacher for run in found.values()] == [False, True, True]
    # null is a value of `patience`: it is set, the rest of the section stays
    assert found["sft"].training.stopping.patience is None and found["sft"].training.stopping.max_epochs == 3
    assert found["kd"].training.stopping.patience == 2
    # a batch of another kind replaces the whole one
    assert (found["small"].training.batch.examples, found["small"].training.batch.tokens) == (None, 500)


def test_the_variants_of_a_base_and_of_its_extension_merge_and_keep_their_nulls() -> None:
    Path("base.yaml").write_text(
        BASE + "loss: {labels: 1.0, logits: 0.8, hidden: {decoder: 3.0}}\n"
        "variants:\n  a: {loss: {logits: null}, training: {learning_rate: 0.1}}\n  b: {}\n", "utf-8",
    )  # fmt: skip
    found = runs("extends: base.yaml\nvariants:\n  a: {loss: {hidden: null}}\n  b: null\n  c: {seeds: [7]}\n", base="")
    assert list(found) == ["a", "c"]  # a null removes a variant, too
    assert found["a"].training.loss.logits is None and found["a"].training.loss.hidden is None
    assert found["a"].training.optimization.learning_rate == 0.1
    assert found["c"].seed == 7 and found["c"].training.loss.hidden is not None


def test_the_matrix_is_a_product_of_every_variant() -> None:
    found = runs(
        "variants: {a: {}, b: {precision: fp32}}\n"
        "matrix:\n  student.decoder_layers: [1, 3]\n  training.learning_rate: [1.0e-3, 3.0e-4]\n"
    )
    assert list(found) == [
        f"{variant}-decoder_layers-{layers}-learning_rate-{rate}"
        for variant in "ab" for layers in (1, 3) for rate in ("0.001", "0.0003")
    ]  # fmt: skip
    last = found["b-decoder_layers-3-learning_rate-0.0003"]
    assert (last.student.decoder_layers, last.training.optimization.learning_rate) == (3, 3e-4)
    assert last.training.precision == "fp32" and last.name == "x-b-decoder_layers-3-learning_rate-0.0003"


def test_exclusions() -> None:
    found = runs(
        "matrix:\n  student.encoder_layers: [1, 2]\n  student.decoder_layers: [1, 2, 3]\n"
        "  exclude:\n  - {student.encoder_layers: 1, student.decoder_layers: 3}\n  - {student.decoder_layers: 2}\n"
    )
    shapes = [(run.student.encoder_layers, run.student.decoder_layers) for run in found.values()]
    assert shapes == [(1, 1), (2, 1), (2, 3)]


@pytest.mark.parametrize(
    ("matrix", "labels"),
    [
        ("precision: [fp32, bf16]", ["precision-fp32", "precision-bf16"]),
        ("student.init.decoder.layers: [spaced, [0, 5], [0, 0]]", ["layers-spaced", "layers-0-5", "layers-0-0"]),
        ("student.init.encoder.layers: [first]\n  student.init.decoder.layers: [last]",
         ["encoder.layers-first-decoder.layers-last"]),
        ("stopping.patience: [null, 3]", ["patience-null", "patience-3"]),
        ("loss: [{labels: 1}, {labels: 1, logits: 1}]", ["loss-1", "loss-1-1"]),
        ("training.warmup: [{steps: 10}, {ratio: 0.1}]", ["warmup-10", "warmup-0.1"]),
        ("data.train.limit: [10, 20]", ["limit-10", "limit-20"]),
        ("training.optimizer.betas: [[0.9, 0.98], [0.9, 0.999]]", ["betas-0.9-0.98", "betas-0.9-0.999"]),
        ("stopping.monitor: [loss, 'loss!']", ["monitor-loss-1", "monitor-loss-2"]),
    ],
)  # fmt: skip
def test_names_are_readable_and_different(matrix: str, labels: list[str]) -> None:
    found = compiled(f"batch: {{examples: 4}}\nmatrix:\n  {matrix}\n")
    if "loss" in matrix:
        assert len({run.label for run in found.runs}) == 2
    else:
        assert [run.label for run in found.runs] == labels
    assert all(len(run.experiment.name) < 200 for run in found.runs)


def test_long_names_are_cut_and_stay_different() -> None:
    long = "variants: {" + ", ".join(f"{'v' * 130}{i}: {{}}" for i in range(3)) + "}\n"
    found = compiled(long)
    assert len({run.label for run in found.runs}) == 3 and all(len(run.label) <= 120 for run in found.runs)


def test_seeds_are_replicates() -> None:
    assert list(runs("seeds: [3]\n")) == [""]
    found = runs("seeds: [1, 2]\nvariants: {a: {}, b: {seeds: [5]}}\n")
    assert {label: run.seed for label, run in found.items()} == {"a-seed1": 1, "a-seed2": 2, "b": 5}


def test_the_narrowest_expectation_counts() -> None:
    found = runs(
        "variants:\n  a: {}\n  b: {expect: {teacher: {rouge2: 9}}}\nmatrix: {student.decoder_layers: [1, 2]}\n"
        "expect:\n  teacher: {rouge2: 20}\n  student: {rouge2: 1, rouge1: 5, within: 0.5}\n  a: {rouge2: 2}\n"
        "  a-decoder_layers-2: {rouge2: 3, source: Table 1}\n"
    )
    student = {label: run.expect["student"].scores for label, run in found.items()}
    assert student == {
        "a-decoder_layers-1": {"rouge2": 2, "rouge1": 5}, "a-decoder_layers-2": {"rouge2": 3, "rouge1": 5},
        "b-decoder_layers-1": {"rouge2": 1, "rouge1": 5}, "b-decoder_layers-2": {"rouge2": 1, "rouge1": 5},
    }  # fmt: skip
    assert found["a-decoder_layers-2"].expect["student"].source == "Table 1"
    assert found["a-decoder_layers-2"].expect["student"].within == 0.5
    assert [run.expect["teacher"].scores["rouge2"] for run in found.values()] == [20, 20, 9, 9]


def test_replicates_are_expected_by_their_name_without_the_seed() -> None:
    found = runs(
        "variants: {a: {}, b: {}}\nmatrix: {student.decoder_layers: [1, 2]}\nseeds: [1, 2]\n"
        "expect:\n  a: {rouge2: 1}\n  a-decoder_layers-2: {rouge2: 2}\n  a-decoder_layers-2-seed2: {rouge2: 3}\n"
    )
    student = {label: run.expect["student"].scores["rouge2"] for label, run in found.items() if label.startswith("a")}
    assert student == {
        "a-decoder_layers-1-seed1": 1, "a-decoder_layers-1-seed2": 1,
        "a-decoder_layers-2-seed1": 2, "a-decoder_layers-2-seed2": 3,
    }  # fmt: skip


def test_the_command_line_is_laid_last_and_can_make_runs() -> None:
    text = "variants: {a: {training: {learning_rate: 0.1}}, b: {}}\n"
    found = runs(text, "training.learning_rate=0.5", "variants.b.seeds=[9]", "matrix.student.decoder_layers=[1, 2]")
    assert list(found) == ["a-decoder_layers-1", "a-decoder_layers-2", "b-decoder_layers-1", "b-decoder_layers-2"]
    assert {run.training.optimization.learning_rate for run in found.values()} == {0.5}
    assert [run.seed for run in found.values()] == [42, 42, 9, 9]


def test_what_concerns_some_runs_names_them_and_points_to_who_wrote_it() -> None:
    Path("base.yaml").write_text(BASE + "variants:\n  a: {stopping: {max_epochs: 0}}\n  b: {}\n", "utf-8")
    found = compiled(
        "extends: base.yaml\nvariants:\n  c: {los: 1}\nmatrix:\n  student.decoder_layers: [1, 9]\nstopping: {patience: -1}\n",
        base="",
    )
    _, found = lower_runs(found, site(), fingerprints=False)
    text = render_text(found.diagnostics, found.texts)
    by_code = {d.code: d for d in found.diagnostics}
    assert [(d.code, d.file, d.line) for d in found.diagnostics] == [
        ("E205", "base.yaml", 14), ("E201", "spec.yaml", 3), ("E521", "spec.yaml", 5), ("E205", "spec.yaml", 6),
    ]  # fmt: skip
    epochs = next(d for d in found.diagnostics if d.file == "base.yaml")
    assert by_code["E521"].where == "run a-decoder_layers-9, run b-decoder_layers-9, run c-decoder_layers-9"
    assert epochs.chain == ("spec.yaml",) and epochs.where == "variant a"
    assert "only in: variant a" in text and "only in: variant a" in render_github(found.diagnostics)
    assert '"runs"' not in render_json(found.diagnostics)


def test_a_variant_is_named_as_a_whole() -> None:
    found = compiled("variants:\n  a: {stopping: {max_epochs: 0}}\n  b: {}\nseeds: [1, 2, 3]\n")
    (only,) = found.diagnostics
    assert (only.code, only.line, only.where) == ("E205", 14, "variant a")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("matrix: {seeds: [[1], [2]]}\n", "E311"),
        ("matrix: {'student.': [1]}\n", "E311"),
        ("matrix: {student.decoder_layers: 3}\n", "E203"),
        ("matrix: {student.decoder_layers: []}\n", "E209"),
        ("matrix: {'a b': [1]}\n", "E208"),
        ("matrix: {exclude: [{a: 1}]}\n", "E312"),
        ("matrix: {student.decoder_layer: [1]}\n", "E201"),
        ("matrix: {student.decoder_layers.x: [1]}\n", "E203"),
        ("matrix: {student.decoder_layers: [[1]]}\n", "E203"),
        ("variants: {a: 3}\n", "E203"),
        ("variants: [a]\n", "E203"),
        ("variants: {a: {variants: {}}}\n", "E201"),
        ("variants: {a/b: {}}\n", "E208"),
        ("variants: {}\n", "E209"),
        ("seeds: [1, 1]\n", "E209"),
        ("seeds: [a, 2]\n", "E203"),
        ("expect: {teacher: {rogue2: 1}}\n", "E208"),
        ("expect: {nobody: {rouge2: 1}}\n", "E314"),
        ("variants: {a: {expect: {nobody: {rouge2: 1}}}}\n", "E314"),
    ],
)
def test_mistakes_are_diagnosed(text: str, code: str) -> None:
    found = compiled(text)
    assert [d.code for d in found.diagnostics] == [code], render_text(found.diagnostics, found.texts)


def test_a_matrix_of_a_million_is_refused_at_once() -> None:
    axes = ["batch.examples", "stopping.max_epochs", "stopping.patience", "training.warmup.steps", "stopping.max_steps",
            "validation.limit"]  # fmt: skip
    text = "matrix:\n" + "".join(f"  {axis}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for axis in axes)
    found = compiled(text)
    assert [d.code for d in found.diagnostics if d.severity == "error"] == ["E313"] and len(found.runs) == 1


def test_too_many_seeds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "MAX_RUNS", 20)
    found = compiled("seeds: [1, 2, 3, 4, 5, 6]\nmatrix: {student.decoder_layers: [1, 2, 3, 4]}\n")
    assert [d.code for d in found.diagnostics] == ["E313"] and len(found.runs) == 20


def test_equal_sections_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from distilc.compiler.spec import sections

    looked: list[str] = []
    original = sections.Sections._looked_at
    monkeypatch.setattr(
        sections.Sections, "_looked_at", lambda self, key, node: (looked.append(key), original(self, key, node))[1]
    )
    found = compiled("matrix:\n  student.decoder_layers: [1, 2, 3]\n  training.learning_rate: [1, 2]\nseeds: [1, 2]\n")
    assert len(found.runs) == 12
    assert {key: looked.count(key) for key in ("data", "teacher", "student", "training", "task")} == {
        "data": 1, "teacher": 1, "student": 3, "training": 2, "task": 1,
    }  # fmt: skip


def test_a_variant_is_the_same_run_as_a_spec_of_its_own() -> None:
    text = "loss: {labels: 1.0, logits: 0.8}\n"
    one = compiled(f"{text}variants: {{sft: {{loss: {{logits: null}}, student: {{decoder_layers: 3}}}}}}\n")
    other = compiled("loss: {labels: 1.0}\n", "student.decoder_layers=3")
    keys = []
    for found in (one, other):
        plans, found = lower_runs(found, site(), fingerprints=True)
        assert not found.failed
        keys.append([stage.key for stage in plans[0].stages.values()])
    assert keys[0] == keys[1]


# --- what is laid over a variant -------------------------------------------------------------------------

LOGITS = "loss: {labels: 1.0, logits: 0.8}\n"
PAIR = "variants: {sft: {loss: {logits: null}}, kd: {}}\n"
TEMPERATURES = "matrix: {loss.logits.temperature: [1, 2]}\n"


def test_a_matrix_over_what_a_variant_removed_is_an_error_that_names_both() -> None:
    found = compiled(LOGITS + PAIR + TEMPERATURES)
    (only,) = found.diagnostics
    assert (only.code, only.severity, only.line, only.column, only.where) == ("E318", "error", 14, 25, "variant sft")
    assert "spec.yaml:15:10" in only.message and "'sft'" in only.message and "`loss.logits`" in only.message
    typed = "matrix: {loss.logits.temperature: null}"
    assert f"`{typed}`" in only.hint
    found = runs(LOGITS + PAIR.replace("{logits: null}", "{logits: null}, " + typed) + TEMPERATURES)
    assert list(found) == ["sft", "kd-temperature-1", "kd-temperature-2"]
    assert [run.training.loss.logits is not None for run in found.values()] == [False, True, True]


def test_a_variant_can_be_left_out_of_a_matrix_or_of_one_of_its_paths() -> None:
    matrix = "matrix: {loss.logits.temperature: [1, 2], student.decoder_layers: [1, 3]}\n"
    own = {"{loss.logits.temperature: null}": ["sft-decoder_layers-1", "sft-decoder_layers-3"], "null": ["sft"]}
    own["{loss.logits.temperature: null, student.decoder_layers: [2]}"] = ["sft-decoder_layers-2"]
    for written, labels in own.items():
        variants = PAIR.replace("{logits: null}", f"{{logits: null}}, matrix: {written}")
        found = runs(LOGITS + variants + matrix)
        assert [label for label in found if label.startswith("sft")] == labels, written
        assert len(found) == len(labels) + 4
    exclude = matrix.replace("]}", "], exclude: [{loss.logits.temperature: 2, student.decoder_layers: 3}]}")
    found = runs(LOGITS + PAIR.replace("{logits: null}", "{logits: null}, matrix: null") + exclude)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        # the term itself, an ancestor of it, and a mapping that has it
        (PAIR + "matrix: {loss.logits: [0.5, 1]}\n", ["E318"]),
        (PAIR + "matrix: {loss: [{labels: 1}, {labels: 1, logits: 1}]}\n", ["E318"]),
        # a mapping merges: what the variant says is still there
        ("variants: {a: {loss: {hidden: {decoder: 1.0}}}}\nmatrix: {loss: [{labels: 1}, {labels: 2}]}\n", []),
        ("variants: {a: {loss: {labels: 3}}}\nmatrix: {loss: [{labels: 1}, {labels: 2}]}\n", ["W317"]),
        # a null that is a value removes nothing
        ("variants: {a: {stopping: {patience: null}}}\nmatrix: {stopping.patience: [3, 4]}\n", ["W317"]),
        # of an either-or mapping, one kind takes the place of the other
        ("variants: {a: {batch: {tokens: 500}}}\nmatrix: {batch.examples: [4, 8]}\n", ["E318"]),
        ("variants: {a: {batch: {tokens: 500}}}\nmatrix: {batch.tokens: [400, 800]}\n", ["W317"]),
        ("variants: {a: {data: {train: {limit: 9}}}}\nmatrix: {data.train.limit: [5, 6]}\n", ["W317"]),
        ("variants: {a: {data: {train: {limit: 9}}}}\nmatrix: {data.train: [{builtin: bulletins}]}\n", ["W317"]),
        ("variants: {a: {data: {train: {limit: 9}}}}\nmatrix: {data.train.builtin: [bulletins]}\n", ["E318", "W319"]),
        # the spec itself removes it, and nothing says what it should be
        ("loss: {logits: null}\n" + TEMPERATURES, ["E318"]),
        ("loss: {logits: null}\nmatrix: {loss.logits: [0.5, 1]}\n", []),
        ("loss: {logits: null}\nvariants: {a: {}, b: {loss: {logits: 1}}}\n" + TEMPERATURES, ["E318"]),
        # two spellings of one path
        ("matrix: {data.train.limit: [1, 2], 'data.train[0].limit': [3, 4]}\n", ["E311"]),
        # a variant's own matrix is held to the language, too
        ("variants: {a: {matrix: {student.decoder_layers: 3}}}\n", ["E203"]),
        ("variants: {a: {matrix: [1]}, b: {matrix: {}}}\n", ["E203", "E209"]),
        ("variants: {a: {matrix: {student.decoder_layer: null}}}\nmatrix: {student.decoder_layers: [1]}\n", ["E312"]),
        ("variants: {a: {}}\nmatrix: {student.decoder_layers: [1], exclude: [{variant: a}]}\n", ["E312"]),
    ],
)
def test_what_is_laid_over_a_variant_does_not_make_it_another_one(text: str, codes: list[str]) -> None:
    base = BASE + ("" if text.startswith("loss") else LOGITS)
    found = compiled(text, base=base)
    assert [d.code for d in found.diagnostics] == codes, render_text(found.diagnostics, found.texts)


@pytest.mark.parametrize(
    ("text", "overrides", "codes"),
    [
        (PAIR, ["loss.logits.temperature=3"], ["E318"]),
        (PAIR, ["loss.logits=0.5"], ["E318"]),
        (PAIR, ["variants.kd.loss.logits.temperature=3"], []),
        (PAIR, ["variants.sft.matrix.student.decoder_layers=null", "matrix.student.decoder_layers=[1, 2]"], []),
        ("loss: {logits: null}\n", ["loss.logits.temperature=3"], ["E318"]),
        ("loss: {logits: null}\n", ["loss.logits={weight: 1, temperature: 3}"], []),
        # what the matrix varies is not set for all runs, whatever else is set and in whatever words
        ("matrix: {student.decoder_layers: [1, 2]}\n", ["student.decoder_layers=1", "student.freeze=none"], ["E315"]),
        ("matrix: {student.decoder_layers: [1, 2]}\n", ["student={decoder_layers: 1}"], ["E315"]),
        ("matrix: {batch.examples: [4, 8]}\n", ["batch.tokens=500"], ["E315"]),
        # one key of an either-or mapping replaces all of it
        ("", ["data.train.builtin=bulletins"], []),
        ("", ["data.train.limit=9", "data.train.builtin=bulletins"], ["W319"]),
    ],
)
def test_set_over_variants_and_matrix(text: str, overrides: list[str], codes: list[str]) -> None:
    found = compiled(text, *overrides, base=BASE + ("" if text.startswith("loss") else LOGITS))
    assert [d.code for d in found.diagnostics] == codes, render_text(found.diagnostics, found.texts)


def test_a_run_that_is_not_asked_for_does_not_forbid_what_is_set() -> None:
    found = compiled(LOGITS + PAIR, "loss.logits.temperature=3")
    assert [run.reporter.failed for run in found.runs] == [True, False]


def test_a_null_set_in_a_variant_waits_as_a_written_one_does() -> None:
    found = runs(LOGITS + "variants: {sft: {loss: {hidden: null}}, kd: {}}\n", "variants.sft.loss.logits=null")
    assert found["sft"].training.loss.logits is None and found["kd"].training.loss.logits is not None


def test_seeds_of_the_command_line_are_those_of_every_variant() -> None:
    found = runs("variants: {a: {seeds: [5]}, b: {}}\n", "seeds=[1, 2]")
    assert {label: run.seed for label, run in found.items()} == {"a-seed1": 1, "a-seed2": 2, "b-seed1": 1, "b-seed2": 2}


@pytest.mark.parametrize(
    ("below", "text", "codes"),
    [
        ("variants: {kd: {loss: {logits: {temperature: 2}}}, sft: {}}\n", "", ["W320"]),
        ("variants: {kd: {loss: {logits: 0.5}}, sft: {}}\n", "variants: {kd: {loss: {logits: null}}}\n", []),
        ("", "variants: {kd: {loss: {logits: 0.5}}, sft: {}}\n", []),
        ("matrix: {loss.logits: [0.1, 0.5]}\n", "", ["E318"]),
        ("matrix: {loss.logits: [0.1, 0.5]}\n", "matrix: {loss.logits: null}\n", []),
    ],
)
def test_what_a_spec_removes_of_the_one_that_it_extends(below: str, text: str, codes: list[str]) -> None:
    Path("base.yaml").write_text(BASE + LOGITS + below, "utf-8")
    found = compiled(f"extends: base.yaml\nloss: {{logits: null}}\n{text}", base="")
    assert [d.code for d in found.diagnostics] == codes, render_text(found.diagnostics, found.texts)
    assert codes or not any(run.experiment.training.loss.logits for run in found.runs if run.experiment.variant != "kd")


def test_a_setting_of_a_term_that_is_off_makes_no_two_runs() -> None:
    loss = "loss: {labels: 1.0, logits: {weight: 0.8}}\n"
    varied = "matrix:\n  loss.logits.temperature: [1.0, 2.0]\n"
    found = compiled(loss + varied + "variants:\n  sft: {loss: {logits: 0}}\n  kd: {}\n")
    (told,) = [diagnostic for diagnostic in found.diagnostics if diagnostic.severity == "error"]
    assert (told.code, told.path) == ("E311", "matrix.loss.logits.temperature")
    assert "the weight of `loss.logits` is 0" in told.message and "in the variant 'sft'" in told.message
    fixed = "variants:\n  sft: {loss: {logits: 0}, matrix: {loss.logits.temperature: null}}\n  kd: {}\n"
    assert len(runs(loss + varied + fixed)) == 3
    both = varied + "  loss.logits.weight: [0, 1]\n"
    assert [one.code for one in compiled(loss + both).diagnostics if one.severity == "error"] == ["E311"]
    excluded = "  exclude: [{loss.logits.weight: 0, loss.logits.temperature: 2.0}]\n"
    assert len(runs(loss + both + excluded)) == 3
