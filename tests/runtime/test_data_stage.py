"""The stages `tokenizer` and `data`: a spec's sources become a tokenizer folder and token rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.data.bulletins import VERSION, bulletin
from distilc.runtime.data.rows import Rows, split_names
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.messages.notices import Notices, read_notices
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import Columns, DataSettings, Source, TokenizerSettings
from distilc.runtime.stages import data, tokenizer

COLUMNS = Columns(source="en", hypothesis=None, target="de", id=None)


def builtin(split: str, limit: int) -> Source:
    return Source(kind="builtin", name="bulletins", config=None, revision=VERSION, split=split, fingerprints=(), limit=limit)


def files(*paths: Path) -> tuple[Source, dict[str, str]]:
    hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    source = Source(kind="files", name=None, config=None, revision=None, split=None, fingerprints=hashes, limit=None)
    return source, dict(zip(hashes, map(str, paths), strict=True))


def data_settings(**changes: Any) -> DataSettings:
    given = {
        "task": "summarization", "train": (builtin("train", 30),), "validation": (builtin("validation", 10),),
        "test": {"test": (builtin("test", 12),)}, "columns": COLUMNS, "max_source_tokens": 60, "max_target_tokens": 80,
        "prefix": "", "source_language": None, "target_language": None, "labels": None,
    }  # fmt: skip
    return DataSettings(**{**given, **changes})


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    def run(module: Any, settings: Any, inputs: Any = None, locations: Any = None) -> tuple[Path, dict[str, Any]]:
        kind = module.__name__.rpartition(".")[2]
        execution = Execution(locations=locations or {}, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
        stage = Stage(id=kind, kind=kind, key="0" * 64, needs={}, settings=settings, execution=execution)
        folder = tmp_path / f"artifact-{kind}"
        folder.mkdir(exist_ok=True)
        plan: Any = SimpleNamespace(site=SimpleNamespace(offline=True))
        context = Context(
            plan=plan, stage=stage, folder=folder, scratch=tmp_path / "scratch", inputs=inputs or {}, rank=0, world=1,
            device="cpu", journal=Journal(None), progress=Progress(None, kind),
        )  # fmt: skip
        (folder / "warnings.jsonl").unlink(missing_ok=True)
        context.notices = Notices(folder / "warnings.jsonl")
        return folder, module.run(stage, context)

    return run


@pytest.fixture
def trained(start: Any) -> Path:
    settings = TokenizerSettings(
        algorithm="bpe", vocab_size=600, family="marian", train=(builtin("train", 200),), columns=COLUMNS
    )
    folder, summary = start(tokenizer, settings)
    assert summary["vocab_size"] == 600
    return Path(folder)


def test_a_tokenizer_for_pairs_reads_both_texts_and_no_labels(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"p": "quick brown fox", "h": "lazy dog", "label": number % 2} for number in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source, locations = files(path)
    settings = TokenizerSettings(
        algorithm="wordpiece", vocab_size=300, family="bert", train=(source,),
        columns=Columns(source="p", hypothesis="h", target="", id=None),
    )  # fmt: skip
    folder, _ = start(tokenizer, settings, locations=locations)
    (folder / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    found = load_tokenizer(folder)
    assert found.tokenize("The quick lazy dog") == ["[UNK]", "quick", "lazy", "dog"]  # of `t` nothing is known
    assert found("brown", "dog")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_the_builtin_corpus_becomes_rows(start: Any, trained: Path) -> None:
    folder, summary = start(data, data_settings(), {"tokenizer": trained})
    assert split_names(folder) == ["train", "validation", "test.test"]
    assert {split: counts["examples"] for split, counts in summary.items() if split != "line"} == {
        "train": 30, "validation": 10, "test.test": 12
    }  # fmt: skip
    rows = Rows.open(folder, "test.test")
    assert rows.raw(5) == bulletin("test", 5)
    loaded = load_tokenizer(trained)
    whole = loaded(bulletin("test", 5)["source"])["input_ids"]
    assert len(whole) > 60 and rows.source(5).tolist() == [*whole[:59], loaded.eos_token_id]
    assert rows.target(5).tolist() == loaded(bulletin("test", 5)["target"])["input_ids"]
    train = Rows.open(folder, "train")
    counts = summary["train"]
    assert counts["source_tokens"] == int(train.source_lengths.sum())
    assert counts["target_tokens"] == int(train.target_lengths.sum())
    assert counts["truncated_source"] == int((train.source_lengths == 60).sum()) > 20
    assert counts["truncated_target"] == 0
    assert "texts cut" in summary["line"]


def test_the_same_data_gives_the_same_bytes(start: Any, trained: Path) -> None:
    hashes = []
    for _ in range(2):
        folder, _ = start(data, data_settings(), {"tokenizer": trained})
        hashes.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()})
    assert hashes[0] == hashes[1] and len(hashes[0]) == 15


def test_files_and_named_test_sets(start: Any, trained: Path, tmp_path: Path) -> None:
    pairs = [{"en": f"house number {i}", "de": f"Haus Nummer {i}"} for i in range(6)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), "utf-8")
    source, locations = files(path)
    settings = data_settings(train=(source, builtin("train", 2)), test={"a": (source,), "b": (source,)})
    folder, summary = start(data, settings, {"tokenizer": trained}, locations)
    assert split_names(folder) == ["train", "validation", "test.a", "test.b"]
    assert summary["train"]["examples"] == 8
    assert Rows.open(folder, "train").raw(4) == {"id": "train-4", "source": "house number 4", "target": "Haus Nummer 4"}
    assert Rows.open(folder, "test.b").raw(0)["id"] == "test.b-0"


@pytest.mark.parametrize(("sets", "spec_path"), [({"test": "x"}, "data.test"), ({"hard": "x"}, "data.test.hard")])
def test_a_fault_points_at_its_set(start: Any, trained: Path, tmp_path: Path, sets: dict[str, str], spec_path: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n", "utf-8")
    source, locations = files(path)
    with pytest.raises(Failure) as caught:
        start(data, data_settings(test=dict.fromkeys(sets, (source,))), {"tokenizer": trained}, locations)
    assert caught.value.code == "R204" and caught.value.spec_path == spec_path


def test_a_tokenizer_without_padding_is_a_diagnosis(start: Any, trained: Path) -> None:
    config = json.loads((trained / "tokenizer_config.json").read_text("utf-8"))
    del config["pad_token"]
    (trained / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(Failure) as caught:
        start(data, data_settings(), {"tokenizer": trained})
    assert caught.value.code == "R226"


def remarks(start: Any, trained: Path, tmp_path: Path, **rows: list[tuple[str, str]]) -> tuple[dict[str, str], str]:
    """(code -> message of what the data stage says of these splits, its line)."""
    sources, locations = {}, {}
    for split, pairs in rows.items():
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps({"en": one, "de": other}) + "\n" for one, other in pairs), "utf-8")
        source, where = files(path)
        sources[split], locations = (source,), {**locations, **where}
    chosen = data_settings(train=sources["train"], test={"test": sources["test"]} if "test" in sources else {})
    folder, summary = start(data, chosen, {"tokenizer": trained}, locations)
    return {notice["code"]: notice["message"] for notice in read_notices(folder / "warnings.jsonl")}, summary["line"]


GOOD = [("Rain fell on the town.", "rain"), ("The school stayed shut.", "the school")]


def test_what_a_set_says_is_told(
    start: Any, trained: Path, tiny_tokenizer_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    found, line = remarks(start, trained, tmp_path, train=GOOD, test=[("The team won.", "the team")])
    assert found == {} and "warnings" not in line
    cyrillic = [("Шёл дождь.", "дождь"), *GOOD]
    small = tiny_tokenizer_folder("t5")  # it has no bytes to fall back on
    found, line = remarks(start, small, tmp_path, train=cyrillic, test=[("A cat.", "cat"), GOOD[1]])
    assert set(found) == {"R213", "R216"}
    assert "% of the source tokens and" in found["R213"] and "% of the target tokens of train" in found["R213"]
    assert found["R216"] == "1 of 2 sources of data.test are training sources, too, the first: row 2"
    assert line.endswith("; see the warnings: unknown tokens, test sources that are trained on")
    found, _ = remarks(start, trained, tmp_path, train=[*GOOD, ("A cat sat.</s> It slept.", "cat")])
    assert found == {"R215": "the names of control tokens in texts: 1 rows of train, the first '</s>' (id train-2)"}


def test_targets_without_an_end_are_told(start: Any, trained: Path, tmp_path: Path) -> None:
    tokenizer_file = json.loads((trained / "tokenizer.json").read_text("utf-8"))
    (trained / "tokenizer.json").write_text(json.dumps({**tokenizer_file, "post_processor": None}), "utf-8")
    found, line = remarks(start, trained, tmp_path, train=GOOD)
    assert found["R214"] == "targets without an end token: 2 of 2 of train; 10 of 10 of validation"
    assert "targets without an end" in line
