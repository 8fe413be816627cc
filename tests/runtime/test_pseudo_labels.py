"""The stages `pseudo-labels` and `targets`: labels by a model or from a file become the rows of a student."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distilc.runtime.data.bulletins import VERSION
from distilc.runtime.data.rows import Rows, split_names
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.generation import shards
from distilc.runtime.generation.choose import open_engine
from distilc.runtime.metrics.rouge import rouge_of_examples
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import (
    Columns,
    DataSettings,
    GenerationSettings,
    LabelFile,
    PseudoLabelSettings,
    Source,
    TargetsSettings,
)
from distilc.runtime.stages import data, pseudo_labels, targets

COLUMNS = Columns(source="source", hypothesis=None, target="target", id="id")
SOURCES = (
    "rain closed two roads near the harbour", "the museum shows letters", "a local team won the final by three goals",
    "prices of bread rose", "doctors warned that the new fever spreads", "the school stayed shut on monday",
    "the council approved a new bridge over the river", "the sailor wrote to his sister",
)  # fmt: skip
TARGETS = (
    "rain closed roads", "letters at the museum", "a team won", "bread is dear", "a fever spreads", "the school is shut",
    "a new bridge", "the sailor wrote",
)  # fmt: skip


def generation(**changes: Any) -> GenerationSettings:
    given = {
        "engine": "transformers", "beams": 2, "length_penalty": None, "min_length": None, "max_length": 10,
        "no_repeat_ngram": None, "early_stopping": None,
    }  # fmt: skip
    return GenerationSettings(**{**given, **changes})


class Bench:
    """Training rows in a file, and stages run over them."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.locations: dict[str, str] = {}
        rows = [{"id": f"r{i}", "source": source, "target": target} for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True))]
        self.train = Source(kind="files", name=None, config=None, revision=None, split=None,
                            fingerprints=(self.file("rows.jsonl", rows),), limit=None)  # fmt: skip

    def file(self, name: str, rows: list[Any]) -> str:
        path = self.folder / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
        fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        self.locations[fingerprint] = str(path)
        return fingerprint

    def settings(self, **changes: Any) -> PseudoLabelSettings:
        given = {
            "task": "summarization", "source": "model", "train": (self.train,), "columns": COLUMNS, "prefix": "",
            "source_language": None, "target_language": None, "max_source_tokens": 40, "generation": generation(),
            "precision": "fp32", "file": None, "min_rouge2": None,
        }  # fmt: skip
        return PseudoLabelSettings(**{**given, **changes})

    def of_file(self, rows: list[Any], **changes: Any) -> PseudoLabelSettings:
        file = LabelFile(fingerprint=self.file("labels.jsonl", rows), id="id", text="text")
        return self.settings(source="file", file=file, generation=None, precision=None, max_source_tokens=None, **changes)

    def context(self, id: str, settings: Any, inputs: dict[str, Path] | None = None, rank: int = 0, world: int = 1) -> Context:
        kind = {PseudoLabelSettings: "pseudo-labels", TargetsSettings: "targets", DataSettings: "data"}[type(settings)]
        execution = Execution(locations=self.locations, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
        stage = Stage(id=id, kind=kind, key="0" * 64, needs={"data": "data"}, settings=settings, execution=execution)
        folder = self.folder / f"artifact-{id}"
        (folder / ".scratch").mkdir(parents=True, exist_ok=True)
        plan: Any = SimpleNamespace(
            site=SimpleNamespace(offline=True), stage=lambda _: SimpleNamespace(settings=self.data_settings())
        )
        return Context(
            plan=plan, stage=stage, folder=folder, scratch=folder / ".scratch", inputs=inputs or {"model": self.model},
            rank=rank, world=world, device="cpu", journal=Journal(folder / "metrics.jsonl" if rank == 0 else None),
            progress=Progress(None, id),
        )  # fmt: skip

    def label(self, id: str, settings: PseudoLabelSettings, inputs: dict[str, Path] | None = None) -> Path:
        context = self.context(id, settings, inputs)
        self.notices: list[Any] = []
        context.notices.add = self.notices.append  # type: ignore[method-assign]
        self.summary = pseudo_labels.run(context.stage, context)
        return context.folder

    def data_settings(self) -> DataSettings:
        few = Source(kind="builtin", name="bulletins", config=None, revision=VERSION, split="test", fingerprints=(), limit=2)
        return DataSettings(
            task="summarization", train=(self.train,), validation=(few,), test={"a": (few,), "b": (few,)}, columns=COLUMNS,
            max_source_tokens=40, max_target_tokens=12, prefix="", source_language=None, target_language=None, labels=None,
        )  # fmt: skip

    def data(self) -> Path:
        context = self.context("data", self.data_settings(), {"tokenizer": self.model})
        data.run(context.stage, context)
        return context.folder

    def mix(self, names: tuple[str, ...], shares: dict[str, float] | None = None, **labels: Path) -> Path:
        settings = TargetsSettings(targets=names, max_target_tokens=12, shares=shares or {})
        inputs = {"data": self.data(), "tokenizer": self.model, **{f"labels.{name}": folder for name, folder in labels.items()}}
        context = self.context("targets", settings, inputs)
        self.summary = targets.run(context.stage, context)
        return context.folder


@pytest.fixture
def bench(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Bench:
    return Bench(tmp_path, tiny_model_folder("marian"))


def lines(folder: Path, name: str = "labels.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def written(*texts: Any) -> list[Any]:
    return [{"id": f"r{i}", "text": text} for i, text in enumerate(texts)]


# --- by a model --------------------------------------------------------------------------------------


def found_by_engine(bench: Bench, settings: PseudoLabelSettings) -> list[Any]:
    """The hypotheses for each source, from an engine of its own."""
    tokenizer = load_tokenizer(bench.model)
    sources = [np.asarray(tokenizer(settings.prefix + source)["input_ids"], np.int32) for source in SOURCES]
    labels = np.asarray(tokenizer(text_target=TARGETS[0])["input_ids"], np.int32)
    found: dict[int, Any] = {}
    assert settings.generation is not None
    engine = open_engine(settings.generation, bench.model, precision="fp32", device="cpu", labels=labels)
    engine.generate(sources, lambda positions, texts: found.update(zip(map(int, positions), texts, strict=True)))
    return [found[i] for i in range(len(SOURCES))]


def test_labels_are_what_the_engine_writes(bench: Bench) -> None:
    folder = bench.label("labels-own", bench.settings())
    records = lines(folder)
    assert [record["id"] for record in records] == [f"r{i}" for i in range(8)]
    found = found_by_engine(bench, bench.settings())
    assert [record["text"] for record in records] == [found[i][0].text for i in range(8)]
    assert len({record["score"] for record in records}) > 3
    assert [record["score"] for record in records] == [round(found[i][0].score, 4) for i in range(8)]
    assert records[2]["source_sha256"] == hashlib.sha256(SOURCES[2].encode()).hexdigest()
    expected = rouge_of_examples(("rouge2",), [record["text"] for record in records], TARGETS)["rouge2"]
    assert [record["rouge2"] for record in records] == [round(value, 4) for value in expected]
    assert all(record["kept"] and "dropped" not in record for record in records if record["text"])
    assert bench.summary["rouge2"] == pytest.approx(sum(expected) / 8, abs=1e-4)
    (logged,) = lines(folder, "metrics.jsonl")
    assert logged["metrics"]["labels/rouge2"] == bench.summary["rouge2"] and logged["metrics"]["labels/rows"] == 8
    assert json.loads((folder / "quality.json").read_text("utf-8")).items() <= bench.summary.items()


def test_a_translation_is_judged_by_bleu(bench: Bench) -> None:
    rows = written(*TARGETS[:4], "the school is shut", "the cat", "a new bridge over", "he wrote")
    folder = bench.label("labels-own", bench.of_file(rows, task="translation"))
    records = lines(folder)
    assert records[3]["bleu"] == pytest.approx(100) and "rouge2" not in records[0] and records[5]["bleu"] < 40
    assert bench.summary["bleu"] == pytest.approx(sum(record["bleu"] for record in records) / 8, abs=1e-3)


def test_of_several_texts_the_closest_is_the_label(bench: Bench) -> None:
    several = bench.settings(task="translation", generation=generation(beams=4, n_best=4))
    found = found_by_engine(bench, several)
    assert all(len(hypotheses) == 4 for hypotheses in found)
    # The original target of row i is what hypothesis i % 4 says.
    wanted = [found[i][i % 4].text for i in range(8)]
    assert len({text.text for text in found[3]}) == 4
    bench.train = Source(**{**vars(bench.train), "fingerprints": (bench.file("others.jsonl", [
        {"id": f"r{i}", "source": source, "target": target} for i, (source, target) in enumerate(zip(SOURCES, wanted, strict=True))
    ]),)})  # fmt: skip
    settings = bench.settings(task="translation", generation=generation(beams=4, n_best=4))
    records = lines(bench.label("labels-best", settings))
    assert [record["text"] for record in records] == wanted
    assert [record["bleu"] for record in records] == pytest.approx([100.0] * 8)
    assert [record["score"] for record in records] == [
        round(next(text.score for text in found[i] if text.text == wanted[i]), 4) for i in range(8)
    ]


def test_of_equals_the_likeliest_is_the_label(bench: Bench) -> None:
    settings = bench.settings(generation=generation(beams=3, n_best=3))
    records = lines(bench.label("labels-best", settings))
    assert {record["rouge2"] for record in records} == {0.0}  # texts of one word
    assert [record["text"] for record in records] == [hypotheses[0].text for hypotheses in found_by_engine(bench, settings)]


@pytest.mark.parametrize("family", ["mbart", "t5"])
def test_other_families_write_labels(tmp_path: Path, tiny_model_folder: Any, family: str) -> None:
    bench = Bench(tmp_path, tiny_model_folder(family))
    languages = {"source_language": "en_XX", "target_language": "de_DE"} if family == "mbart" else {"prefix": "summarize: "}
    settings = bench.settings(**languages)
    records = lines(bench.label("labels-own", settings))
    found = found_by_engine(bench, settings)
    assert [(record["text"], record["score"]) for record in records] == [
        (hypotheses[0].text, round(hypotheses[0].score, 4)) for hypotheses in found
    ]
    assert len({record["score"] for record in records}) > 3


# --- in pieces ---------------------------------------------------------------------------------------


def test_shards_depend_on_the_lengths_alone_and_keep_every_row() -> None:
    lengths = np.random.default_rng(0).integers(1, 900, 3000)
    found = shards.plan_shards(lengths)
    assert sorted(np.concatenate(found).tolist()) == list(range(3000))
    assert all(len(rows) * lengths[rows].max() <= 32768 and len(rows) <= 256 for rows in found)
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in shards.plan_shards(lengths.copy())]


def test_interrupted_and_shared_out_it_is_the_same_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    expected = (bench.label("labels-own", bench.settings()) / "labels.jsonl").read_bytes()
    # Rank 1 of two does one round, is asked to stop, and never comes back.
    second = bench.context("labels-again", bench.settings(), rank=1, world=2)
    first = bench.context("labels-again", bench.settings())
    first.stop_requested = lambda: True
    with pytest.raises(Failure) as caught:
        pseudo_labels.run(first.stage, first)
    assert caught.value.exit_code == 130
    assert [file.name for file in sorted((first.scratch / "shards").iterdir())] == ["00000.jsonl"]
    second.gather = lambda value: [value, value]  # type: ignore[method-assign]
    second.stop_requested = lambda: True
    with pytest.raises(Failure):
        pseudo_labels.run(second.stage, second)
    assert [file.name for file in sorted((first.scratch / "shards").iterdir())] == ["00000.jsonl", "00002.jsonl"]
    # A shard that was being written when the power went.
    (first.scratch / "shards" / "00001.123").write_text('{"id": "r', "utf-8")
    third = bench.context("labels-again", bench.settings())
    pseudo_labels.run(third.stage, third)
    assert (third.folder / "labels.jsonl").read_bytes() == expected
    assert float((third.scratch / "seconds.json").read_text("utf-8")) > 0


@pytest.mark.slow
def test_killed_again_and_again_it_is_the_same_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a process that is labelling, five times, each some shards further on; no row is lost or doubled."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 1)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has none of the others
    expected = (bench.label("labels-own", bench.settings()) / "labels.jsonl").read_bytes()
    killed = bench.context("labels-killed", bench.settings())
    done = killed.scratch / "shards"
    for number in range(1, 6):
        child = os.fork()
        if child == 0:
            pseudo_labels.run(killed.stage, bench.context("labels-killed", bench.settings()))
            os._exit(0)
        give_up = time.monotonic() + 120
        while len(list(done.glob("*.jsonl"))) < number and time.monotonic() < give_up:
            time.sleep(0.0005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = len(list(done.glob("*.jsonl")))
        assert found >= number
    last = bench.context("labels-killed", bench.settings())
    pseudo_labels.run(last.stage, last)
    torch.set_num_threads(threads)
    assert (last.folder / "labels.jsonl").read_bytes() == expected
    assert [record["id"] for record in lines(last.folder)] == [f"r{i}" for i in range(8)]


# --- rules -------------------------------------------------------------------------------------------


def test_rules_leave_labels_out_and_say_why(bench: Bench) -> None:
    rows = written(
        "rain closed roads", "letters at the museum letters at the museum letters at the museum", "x",
        "bread is dear " * 3, "a fever spreads", "the school is open now", "a new bridge", "the sailor wrote",
    )  # fmt: skip
    del rows[6]
    rules = {"min_rouge2": 60.0, "min_length_ratio": 0.5, "max_length_ratio": 3.5, "max_repetition": 20.0}
    folder = bench.label("labels-dump", bench.of_file(rows, **rules))
    records = lines(folder)
    assert [record.get("dropped") for record in records] == [
        None, "max_repetition", "length_ratio", "max_repetition", None, "min_rouge2", "missing", None
    ]  # fmt: skip
    assert records[6]["text"] is None and not records[6]["kept"] and "rouge2" not in records[6]
    summary = bench.summary
    assert (summary["rows"], summary["kept"]) == (8, 3)
    assert summary["dropped"] == {"length_ratio": 1, "max_repetition": 2, "min_rouge2": 1, "missing": 1}
    assert summary["rouge2_kept"] == pytest.approx(100)
    assert summary["rouge2"] == pytest.approx(sum(record.get("rouge2", 0) for record in records) / 7, abs=1e-3)
    assert summary["line"].startswith("3 of 8 labels kept (1 of another length, 2 repeating themselves, ")
    (logged,) = lines(folder, "metrics.jsonl")
    assert logged["metrics"]["labels/dropped/max_repetition"] == 2


def test_repetition_is_the_share_of_runs_that_were_there_before() -> None:
    from distilc.runtime.labels.quality import length_ratio, repetition

    assert repetition("a b a b a b") == 50.0  # aba bab aba bab
    assert repetition("one two three four") == repetition("a a") == 0.0
    assert length_ratio("日本", "日本日本") == 0.5


def test_other_rules_do_not_write_the_labels_anew(bench: Bench) -> None:
    folder = bench.label("written-own", bench.settings())
    rules = bench.settings(source="labels", generation=None, precision=None, max_source_tokens=None, min_bleu=0.0, max_length_ratio=2.0)
    held = lines(bench.label("labels-own", rules, {"labels": folder}))
    asked = lines(bench.label("labels-direct", bench.settings(min_bleu=0.0, max_length_ratio=2.0)))
    assert held == asked and 0 < bench.summary["kept"] < 8 and "bleu" in held[0]
    other = bench.file("rows.jsonl", [{"id": "r0", "source": "another", "target": "text"}])
    changed = bench.settings(
        source="labels", train=(Source(**{**vars(bench.train), "fingerprints": (other,)}),), generation=None, precision=None
    )
    with pytest.raises(Failure) as caught:
        bench.label("labels-other", changed, {"labels": folder})
    assert caught.value.code == "R347"


def test_no_label_left_is_a_diagnosis(bench: Bench) -> None:
    with pytest.raises(Failure) as caught:
        bench.label("labels-own", bench.settings(min_rouge2=100.0))
    assert caught.value.code == "R345" and caught.value.spec_path == "pseudo_labels.own"
    assert "0 of 8 labels kept (" in caught.value.message


# --- from a file -------------------------------------------------------------------------------------


def test_labels_of_a_file_are_aligned_by_id(bench: Bench) -> None:
    rows = written(*(f"label {i}" for i in range(8)))[::-1]
    records = lines(bench.label("labels-dump", bench.of_file(rows[:3] + rows[4:])))
    assert [record["text"] for record in records] == [f"label {i}" if i != 4 else None for i in range(8)]
    assert records[4]["dropped"] == "missing" and records[0]["score"] is None
    (notice,) = bench.notices
    assert (notice.code, notice.spec_path) == ("R348", "pseudo_labels.dump.file")
    assert notice.message == "1 of 8 training rows have no label in the file, the first: id 'r4'"


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([*written("a", "b"), {"id": "r1", "text": "again"}], "R342", "labels.jsonl:3: the id 'r1' was in "),
        ([{"id": "r0", "text": "a"}, {"id": "zz", "text": "b"}], "R343", "labels.jsonl:2: the id 'zz' is none of the 8 ids"),
        (written("a", "  "), "R341", "labels.jsonl:2 (id r1): the column 'text' is empty"),
        (written("a", None), "R341", "labels.jsonl:2 (id r1): the column 'text' is empty"),
        (written("a", 7), "R341", "labels.jsonl:2 (id r1): the column 'text' holds int, not text"),
        ([{"id": "r0", "label": "a"}], "R341", "labels.jsonl:1 (id r0): there is no column 'text'"),
        (['{"id": "r0", "text": "half \\ud83d"}'], "R202", "half a character"),
        ([["r0", "a"]], "R202", "labels.jsonl:1: a row must be an object"),
        (["oops"], "R202", "labels.jsonl:1: not JSON"),
        ([], "R344", "labels.jsonl has no labels"),
    ],
)
def test_what_is_no_label_is_named_with_file_and_line(bench: Bench, rows: list[Any], code: str, said: str) -> None:
    with pytest.raises(Failure) as caught:
        bench.label("labels-dump", bench.of_file(rows))
    assert caught.value.code == code and said in caught.value.message
    assert (caught.value.spec_path or "").startswith("pseudo_labels.dump.")


def test_labels_of_more_rows_than_a_limit_takes_are_no_fault(bench: Bench) -> None:
    bench.train = Source(**{**vars(bench.train), "limit": 2})
    records = lines(bench.label("labels-dump", bench.of_file(written(*TARGETS))))
    assert [record["text"] for record in records] == list(TARGETS[:2])
    (notice,) = bench.notices
    assert (notice.code, notice.spec_path) == ("R354", "pseudo_labels.dump.file")
    assert notice.message.startswith("6 of 8 labels are of no training row, the first: ")
    assert notice.message.endswith("labels.jsonl:3, id 'r2'")
    with pytest.raises(Failure) as caught:  # none of them is a training row
        bench.label("labels-other", bench.of_file([{"id": "r7", "text": "a"}]))
    assert caught.value.code == "R343"


# --- targets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("original",), ("own",), ("original", "own"), ("own", "original"), ("original", "own", "other")]
)
def test_targets_stand_one_after_the_other(bench: Bench, names: tuple[str, ...]) -> None:
    texts = {"own": [f"rain {i}" for i in range(8)], "other": [f"bread {i}" for i in range(8)], "original": TARGETS}
    labels = {}
    for name in {"own", "other"} & {*names}:
        rules = {"max_length_ratio": 0.55} if name == "other" else {}
        labels[name] = bench.label(f"labels-{name}", bench.of_file(written(*texts[name]), **rules))
    kept = {"original": range(8), "own": range(8), "other": [i for i in range(8) if len(TARGETS[i]) * 0.55 >= 7]}
    assert 0 < len(kept["other"]) < 8
    folder = bench.mix(names, **labels)
    rows, plain = Rows.open(folder, "train"), Rows.open(bench.folder / "artifact-data", "train")
    expected = [(name, i) for name in names for i in kept[name]]
    assert [(rows.raw(n)["by"], rows.raw(n)["id"]) for n in range(len(rows))] == [(name, f"r{i}") for name, i in expected]
    assert np.load(folder / "train.source_row.npy").tolist() == [i for _, i in expected]
    assert np.load(folder / "train.source_row.npy").dtype == np.int64
    tokenizer = load_tokenizer(bench.model)
    for n, (name, i) in enumerate(expected):
        assert rows.source(n).tolist() == plain.source(i).tolist()
        assert rows.raw(n)["target"] == texts[name][i] and rows.raw(n)["source"] == SOURCES[i]
        ids = tokenizer(text_target=texts[name][i])["input_ids"]
        assert rows.target(n).tolist() == (ids if len(ids) <= 12 else [*ids[:11], tokenizer.eos_token_id])
    assert bench.summary["targets"] == {name: len(kept[name]) for name in names}
    assert bench.summary["train"]["examples"] == len(expected)


def test_the_other_splits_are_the_datas_own(bench: Bench) -> None:
    folder = bench.mix(("own",), own=bench.label("labels-own", bench.of_file(written(*TARGETS))))
    given = bench.folder / "artifact-data"
    assert split_names(folder) == split_names(given) == ["train", "validation", "test.a", "test.b"]
    for file in given.iterdir():
        if file.is_file() and not file.name.startswith(("train.", "metrics")):
            assert (folder / file.name).samefile(file)


@pytest.mark.parametrize(("share", "number"), [(0.5, 4), (0.3, 2), (1.5, 12), (2.0, 16)])
def test_a_share_is_an_exact_number_of_rows(bench: Bench, share: float, number: int) -> None:
    labels = bench.label("labels-own", bench.of_file(written(*TARGETS)))
    folder = bench.mix(("original", "own"), {"own": share}, own=labels)
    rows = np.load(folder / "train.source_row.npy").tolist()
    assert rows[:8] == list(range(8)) and len(rows) == 8 + number
    drawn = rows[8:]
    whole = int(share)
    assert drawn[: 8 * whole] == list(range(8)) * whole
    rest = drawn[8 * whole :]
    assert rest == sorted(set(rest)) and len(rest) == round(8 * (share - whole))
    # By hand: the rows with the smallest hashes of name and id.
    order = sorted(range(8), key=lambda i: hashlib.sha256(f"own\nr{i}".encode()).digest())
    assert set(rest) == set(order[: len(rest)])


def test_a_mix_without_a_row_is_refused(bench: Bench) -> None:
    labels = bench.label("labels-own", bench.of_file(written(*TARGETS)))
    with pytest.raises(Failure) as caught:
        bench.mix(("own",), {"own": 0.01}, own=labels)
    assert caught.value.code == "R349" and caught.value.spec_path == "targets"


def test_labels_of_other_rows_are_refused(bench: Bench) -> None:
    labels = bench.label("labels-own", bench.of_file(written(*TARGETS)))
    text = (labels / "labels.jsonl").read_text("utf-8").splitlines(keepends=True)
    for wrong in (text[:-1], [text[1], text[0], *text[2:]], [*text, text[0]], []):
        (labels / "labels.jsonl").write_text("".join(wrong), "utf-8")
        with pytest.raises(Failure) as caught:
            bench.mix(("own",), own=labels)
        assert caught.value.code == "R347" and caught.value.spec_path == "pseudo_labels.own"
