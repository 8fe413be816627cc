"""`predict` with a tiny model: the same texts as the engine alone, in order, whole files, work that goes on."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.commands.partial_output import open_output, part_of
from distilc.runtime.commands.predict import _piece, main
from distilc.runtime.commands.trained_as import RECORD, find_student, record_text, trained_as
from distilc.runtime.execution.store import Store
from distilc.runtime.failure import Failure
from distilc.runtime.generation.choose import open_engine
from distilc.runtime.messages.outlet import Outlet
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.plan.load import bind_plan
from distilc.runtime.plan.settings import GenerationSettings

SOURCES = ["heavy rain closed two roads near the harbour", "a local team won", "the school stayed shut"]
OPTIONS = ["--workspace=ws", "--engine=transformers", "--device=cpu"]
GENERATION = GenerationSettings(
    engine="transformers", beams=2, length_penalty=None, min_length=None, max_length=10, no_repeat_ngram=None,
    early_stopping=None,
)  # fmt: skip
PLAN = Path(__file__).parent / "sample_plan.json"


@pytest.fixture
def student(tiny_model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of nobody; the working folder has `s.txt` and `s.jsonl` with the same sources."""
    monkeypatch.chdir(tmp_path)
    Path("s.txt").write_text("".join(f"{text}\n" for text in SOURCES), "utf-8")
    rows = [{"id": f"r{i}", "body": text} for i, text in enumerate(SOURCES)]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tiny_model_folder("bart")


def expected(folder: Path, prefix: str = "") -> list[str]:
    tokenizer = load_tokenizer(folder)
    engine = open_engine(GENERATION, folder, precision="fp32", device="cpu")
    texts: dict[int, str] = {}
    sources: Any = [tokenizer(prefix + text)["input_ids"] for text in SOURCES]
    engine.generate(sources, lambda at, found: texts.update({i: f[0].text for i, f in zip(at, found, strict=True)}))
    return [texts[i] for i in range(len(SOURCES))]


def read(file: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


def test_texts_in_the_order_of_the_file(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = expected(student)
    assert len(set(found)) > 1
    given = [str(student), "--beams=2", "--max-length=10", *OPTIONS]
    assert main([*given, "s.jsonl", "--column=body", "-o", "out.jsonl"]) == 0
    assert read("out.jsonl") == [
        {"id": f"r{i}", "source": source, "prediction": text}
        for i, (source, text) in enumerate(zip(SOURCES, found, strict=True))
    ]
    assert main([*given, "s.txt", "-o", "out.txt"]) == 0
    assert Path("out.txt").read_text("utf-8") == "".join(f"{text}\n" for text in found)
    assert "no prefix is put before the sources" in capsys.readouterr().err
    assert main([*given, "s.txt"]) == 0
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == found
    assert not list(Path().glob(".*"))


def test_weights_of_the_store_that_were_changed_write_nothing(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a run's `student/` links to them."""
    store, key = Store(tmp_path / "store"), "a" * 64
    shutil.copytree(student, store.work(key), dirs_exist_ok=True)
    artifact = store.publish(key, kind="train", stage="train", seconds=1.0, summary={})
    linked = tmp_path / "student"
    linked.mkdir()
    for file in artifact.iterdir():
        (linked / file.name).symlink_to(file)
    weights = artifact / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main([str(linked), "--beams=1", "--max-length=4", *OPTIONS, "s.txt"]) == 1
    told = capsys.readouterr()
    assert "R401" in told.err and "model.safetensors is not what was written" in told.err and told.out == ""


def test_as_the_run_of_the_student_says(student: Path) -> None:
    """A run, by its name: prefix, column and generation are those of its plan; also where it was copied away."""
    tree = json.loads(PLAN.read_text("utf-8"))
    for stage in tree["stages"]:
        if stage["id"] == "data":
            stage["settings"] |= {"prefix": "the ", "columns": {**stage["settings"]["columns"], "source": "body"}}
        if stage["id"] == "evaluate-student":
            stage["settings"]["generation"] |= {"beams": 2, "max_length": 10, "engine": "transformers"}
    plan = bind_plan(tree)
    folder = Path("ws/runs/mine-0123abcd/student")
    shutil.copytree(student, folder)
    (folder / RECORD).write_text(record_text(plan), "utf-8")
    assert find_student("mine", Path("ws")) == find_student(str(folder.parent), Path("ws")) == folder
    assert main(["mine", "s.jsonl", *OPTIONS[:1], "--device=cpu", "-o", "out.jsonl"]) == 0
    assert [record["prediction"] for record in read("out.jsonl")] == expected(student, "the ")
    away = shutil.copytree(folder, "elsewhere")
    found = trained_as(Path(away))
    assert found is not None and found.generation == plan.stage("evaluate-student").settings.generation
    assert (found.prefix, found.column, found.max_source_tokens, found.found_in) == ("the ", "body", 64, f"elsewhere/{RECORD}")
    for text in ("{", "[]", '{"prefix": 3}', "[" * 100000):
        (folder / RECORD).write_text(text, "utf-8")
        assert trained_as(folder) is None


def test_as_the_store_says(tmp_path: Path) -> None:
    """Of an artifact: the manifest of the rows that it was trained on."""
    data = {"prefix": "p: ", "source_language": None, "target_language": None, "columns": {"source": "s"}, "max_source_tokens": 7}
    made = {"trained": {"kind": "train", "needs": {"data": "mixed"}}, "mixed": {"kind": "targets", "needs": {"data": "rows"}},
            "rows": {"kind": "data", "settings": data}}  # fmt: skip
    for key, manifest in made.items():
        (tmp_path / key).mkdir()
        (tmp_path / key / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    found = trained_as(tmp_path / "trained")
    assert found is not None and (found.prefix, found.column, found.max_source_tokens) == ("p: ", "s", 7)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody", "s.txt"], "R366", "there is no model folder and no run nobody"),
        (["STUDENT", "empty.txt"], "R361", "empty.txt:2: the line is empty"),
        (["STUDENT", "s.jsonl", "--column=text"], "R361", "s.jsonl:1: there is no column 'text'; the columns are id, body"),
        (["STUDENT", "s.txt", "-o", "nowhere/out.txt"], "R369", "cannot write nowhere/out.txt"),
        (["STUDENT", "s.txt", "-o", "out.parquet"], "R369", "name it out.jsonl or out.txt"),
        (["STUDENT", "s.txt", "--max-length=900"], "R320", "and the model has 64 positions"),
        (["STUDENT", "a.text"], "R201", "use .txt, .jsonl, .json, .csv, .tsv"),
    ],
)
def test_refuses(
    student: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, words: str
) -> None:
    Path("empty.txt").write_text("a\n\nb\n", "utf-8")
    assert main([str(student) if word == "STUDENT" else word for word in arguments] + OPTIONS) == 1
    said = capsys.readouterr().err
    assert f"{code}: " in said and words in said


def test_mbart_has_to_know_its_languages(
    tiny_model_folder: Callable[..., Path], student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_model_folder("mbart")), "s.txt", *OPTIONS]) == 1
    assert "R368: mbart writes the language into every sequence" in capsys.readouterr().err


def test_another_target_language_is_other_work(
    tiny_model_folder: Callable[..., Path], student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distilc.runtime.commands.predict.PIECE", 1)
    given = [str(tiny_model_folder("mbart")), "s.txt", *OPTIONS, "-o", "out.jsonl", "--max-length=6", "--source-language=en_XX"]
    pieces: list[int] = []

    def counted(engine: Any, job: Any, piece: range, *rest: Any) -> list[dict[str, Any]]:
        if len(pieces) == 2:
            raise KeyboardInterrupt
        pieces.append(piece.start)
        return _piece(engine, job, piece, *rest)

    monkeypatch.setattr("distilc.runtime.commands.predict._piece", counted)
    assert main([*given, "--target-language=ro_RO"]) == 130
    pieces.clear()
    assert main([*given, "--target-language=en_XX"]) == 130 and pieces == [0, 1]
    pieces.clear()
    assert main([*given, "--target-language=en_XX"]) == 0 and pieces == [2]


@pytest.mark.parametrize(
    ("family", "options", "limit"),
    [("t5", [], 1024), ("t5", ["--max-source-tokens=2000"], 2000), ("bart", ["--max-source-tokens=2000"], 64),
     ("bart", ["--max-source-tokens=30"], 30)],
)  # fmt: skip
def test_sources_are_cut_where_the_model_or_an_option_says(
    tiny_model_folder: Callable[..., Path], student: Path, capsys: pytest.CaptureFixture[str], family: str,
    options: list[str], limit: int,
) -> None:  # fmt: skip
    Path("long.txt").write_text("rain " * 4000, "utf-8")
    given = [str(tiny_model_folder(family)), "long.txt", *OPTIONS, "--beams=1", "--max-length=3"]
    assert main([*given, *options]) == 0
    assert f"1 of 1 sources are cut to {limit} tokens, the first: long.txt:1" in capsys.readouterr().err


def test_a_reader_that_left(student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`| head`: nothing more is predicted for nobody, and that is no success."""
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(io.BufferedWriter(Outlet(writing, "w")), "utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main([str(student), "s.txt", *OPTIONS, "--prefix=a ", "--max-length=4"]) == 1
    assert "R369: nobody reads standard output any more: 0 predictions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "R302: out of memory: CUDA out of memory. Tried"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "(`--batch-size 1` is the least), or cut them (`--max-source-tokens`); with the first, what is done is kept"),
        (RuntimeError("mkl_malloc: failed to allocate memory"), "R302: out of memory: mkl_malloc"),
        (MemoryError(), "R302: out of memory: no message"),
        (OSError(28, "No space left on device", "/tmp/x"), "R402: no space left on the disk of /tmp/x"),
        (ValueError("odd"), "R999: ValueError: odd\n  hint: this is a fault of distilc; the traceback is in "),
    ],
)
def test_what_nothing_foresaw_is_a_diagnosis(
    student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(Path.cwd()))
    monkeypatch.setattr("distilc.runtime.commands.predict._piece", fails)
    assert main([str(student), "s.txt", *OPTIONS, "-o", "out.txt"]) == 1
    assert words in capsys.readouterr().err
    logs = [path.read_text("utf-8") for path in Path().glob("distilc-predict-*.log")]
    assert len(logs) == ("R999" in words) and all("in fails" in log for log in logs)


def test_lengths_that_no_text_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m", "s.txt", "--min-length", "10", "--max-length", "4", *OPTIONS]) == 2
    assert capsys.readouterr().err == "--min-length 10 is more than --max-length 4\n"


@pytest.mark.parametrize(
    "given",
    [
        "".join(f"{text}\n" for text in SOURCES),
        "\n" + "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(SOURCES)),
    ],
)
def test_the_standard_input(
    student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert main([str(student), "-", "--beams=2", "--max-length=10", *OPTIONS]) == 0
    assert [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()] == expected(student)


def test_no_such_device(student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([str(student), "s.txt", *OPTIONS[:2], "--device=cuda"]) == 1
    assert "R372: --device cuda: torch finds no CUDA device here" in capsys.readouterr().err


# --- an output that goes on ------------------------------------------------------------------------


def records(*numbers: int) -> list[dict[str, Any]]:
    return [{"source": "s", "prediction": f"text\n{n}"} for n in numbers]


def test_interrupted_work_goes_on_and_other_work_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with pytest.raises(KeyboardInterrupt), open_output(out, "digest") as output:
        output.write(records(0, 1))
        raise KeyboardInterrupt
    assert not out.exists() and part_of(out).is_file()
    with part_of(out).open("a") as file:
        file.write('{"source": "cut o')  # killed while writing
    with open_output(out, "digest") as output:
        assert output.done == 2
        output.write(records(2))
    assert out.read_text("utf-8") == "text 0\ntext 1\ntext 2\n" and not part_of(out).exists()
    with pytest.raises(KeyboardInterrupt), open_output(out, "digest") as output:
        output.write(records(0))
        raise KeyboardInterrupt
    with open_output(out, "another") as output:
        assert output.done == 0
        output.write(records(7))
    assert out.read_text("utf-8") == "text 7\n"


@pytest.mark.parametrize("damage", [b"\0\0\0\0\n", b'{"source": "s", "predi\n', b'"text"\n', b'{"source": "\xff"}\n', b"7\n"])
def test_a_damaged_record_is_the_end_of_what_is_kept(tmp_path: Path, damage: bytes) -> None:
    out = tmp_path / "out.txt"
    with pytest.raises(KeyboardInterrupt), open_output(out, "digest") as output:
        output.write(records(0, 1, 2))
        raise KeyboardInterrupt
    lines = part_of(out).read_bytes().splitlines(keepends=True)
    part_of(out).write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
    with open_output(out, "digest") as output:
        assert output.done == 1
        output.write(records(8, 9))
    assert out.read_text("utf-8") == "text 0\ntext 8\ntext 9\n"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Failure) as raised, open_output(tmp_path / "no" / "out.txt", "digest"):
        raise AssertionError("it was opened")
    assert raised.value.code == "R369"
