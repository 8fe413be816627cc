"""Rows and lengths of a training set: from the store, from files, from published figures, or unknown."""

import csv
import json

import pytest

from distilc.compiler.plan.plan_sizes import data_size, trained_size
from distilc.compiler.resolve import data_sizes

FILES = "data={train: {files: %s}, validation: {files: %s}, test: {files: %s}}"


def of_files(compile_text, name: str, *overrides: str):
    return compile_text(FILES % (name, name, name), *overrides)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_the_built_in_corpus(compile_text):
    size = data_size(compile_text("data.train={builtin: bulletins, limit: 700}").typed)
    assert (size.rows, size.origin) == (700, "corpus")
    assert (size.source_tokens, size.target_tokens) == pytest.approx((61 * 1.3, 20 * 1.3))
    cut = data_size(compile_text("data.max_source_tokens=32").typed)
    assert cut.source_tokens == 32


def test_the_figures_of_the_built_in_corpus_are_its_own():
    from distilc.compiler.resolve.data_sizes import CORPORA
    from distilc.runtime.data.bulletins import SPLITS, bulletins

    rows, source, target = CORPORA["bulletins"]
    assert rows == SPLITS["train"]
    sample = list(bulletins("train", 500))
    means = [sum(len(row[side].split()) for row in sample) / len(sample) for side in ("source", "target")]
    assert (source, target) == pytest.approx(means, rel=0.02)


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("{hub: EdinburghNLP/xsum, split: train}", 204_045),
        ("{hub: EdinburghNLP/xsum, split: train, limit: 1000}", 1000),
        ("{hub: abisee/cnn_dailymail, config: 3.0.0, split: train}", 287_113),
        ("[{hub: EdinburghNLP/xsum, split: train}, {builtin: bulletins}]", 204_045 + 20_000),
        ("{hub: EdinburghNLP/xsum, split: validation}", None),
        ("{hub: org/rows, split: train}", None),
        ("[{hub: EdinburghNLP/xsum, split: train}, {hub: org/rows}]", None),
    ],
)
def test_well_known_sets(compile_text, source, rows):
    size = data_size(compile_text(f"data.train={source}").typed)
    assert (size and size.rows) == rows


def test_small_files_are_counted(compile_text, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"source": "x" * 40 * n, "target": "y" * 8} for n in (1, 2, 3)])
    size = data_size(of_files(compile_text, "rows.jsonl").typed)
    assert (size.rows, size.source_tokens, size.target_tokens, size.origin) == (3, 20, 2, "counted")
    assert data_size(of_files(compile_text, "rows.jsonl", "data.max_source_tokens=15").typed).source_tokens == (
        pytest.approx((10 + 15 + 15) / 3)
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "json"])
def test_rows_are_counted_however_long_the_first_ones_are(compile_text, tmp_path, suffix):
    rows = [{"source": "w" * (40 if i < 1000 else 400), "target": "t" * 20} for i in range(4000)]
    write_table(tmp_path / f"rows.{suffix}", rows)
    size = data_size(of_files(compile_text, f"rows.{suffix}").typed)
    assert (size.rows, size.target_tokens, size.origin) == (4000, 5, "counted")
    assert size.source_tokens == pytest.approx(0.25 * 10 + 0.75 * 100, rel=0.01)
    (tmp_path / "two.jsonl").write_text('\n{"source": "a", "target": "b"}\n\n{"source": "a", "target": "b"}', "utf-8")
    both = FILES % (f"[rows.{suffix}, two.jsonl]", "two.jsonl", "two.jsonl")
    assert data_size(compile_text(both).typed).rows == 4002


def write_table(file, rows):
    if file.suffix == ".jsonl":
        write_rows(file, rows)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows), "utf-8")
    else:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["source", "target"], delimiter="," if file.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "json"])
def test_large_files_are_sampled(compile_text, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(data_sizes, "_COUNTED_BYTES", 300_000)
    rows = [{"source": "w" * (100 + i % 100), "target": "t" * 20} for i in range(3000)]
    file = tmp_path / f"rows.{suffix}"
    write_table(file, rows)
    size = data_size(of_files(compile_text, file.name).typed)
    assert size.rows == pytest.approx(3000, rel=0.01) and size.origin == "files"
    assert size.source_tokens == pytest.approx(149.5 / 4)
    assert size.target_tokens == 5


def test_files_that_cannot_be_read_are_of_unknown_size(compile_text, tmp_path):
    for name, content in (("rows.jsonl", b"{not json\n"), ("rows.parquet", b"PAR1"), ("empty.jsonl", b"")):
        (tmp_path / name).write_bytes(content)
        assert data_size(of_files(compile_text, name).typed) is None


def test_what_the_data_stage_counted_is_exact(compile_text, tmp_path):
    lowered = compile_text()
    folder = tmp_path / "workspace" / "store" / lowered.stage("data")["key"]
    folder.mkdir(parents=True)
    counted = {"examples": 90, "source_tokens": 9000, "target_tokens": 1800, "truncated_source": 0}
    (folder / "manifest.json").write_text(json.dumps({"summary": {"train": counted}}), "utf-8")
    size = data_size(lowered.typed)
    assert (size.rows, size.source_tokens, size.target_tokens, size.origin) == (90, 100, 20, "store")
    for damaged in ("{}", "{", '{"summary": {"train": {"examples": 0, "source_tokens": 0}}}'):
        (folder / "manifest.json").write_text(damaged, "utf-8")
        assert data_size(lowered.typed).origin == "corpus"


def test_a_mix_has_every_source_once_for_each_target(compile_text):
    lowered = compile_text("pseudo_labels={own: {by: teacher}}", "targets=[original, own]")
    assert trained_size(lowered.typed, lowered.typed.stages["train"]).rows == 200
    assert trained_size(lowered.typed, lowered.typed.stages["teacher-train"]).rows == 100
