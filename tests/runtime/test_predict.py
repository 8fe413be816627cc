"""`predict` with a tiny model: the same texts as the engine alone, in order, whole files, work that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.generation.engine import open_engine
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.partial_output import open_output, part_of
from distilc.runtime.plan import GenerationSettings
from distilc.runtime.predict import main
from distilc.runtime.trained_as import find_student, trained_as

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


def test_as_the_plan_beside_the_student_says(student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, by its name: prefix, column and generation are those of its plan."""
    tree = json.loads(PLAN.read_text("utf-8"))
    for stage in tree["stages"]:
        if stage["id"] == "data":
            stage["settings"] |= {"prefix": "the ", "columns": {**stage["settings"]["columns"], "source": "body"}}
        if stage["id"] == "evaluate-student":
            stage["settings"]["generation"] |= {"beams": 2, "max_length": 10, "engine": "transformers"}
    folder = Path("ws/runs/mine-0123abcd")
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(tree), "utf-8")
    (folder / "student").symlink_to(student)
    assert find_student("mine", Path("ws")) == find_student(str(folder), Path("ws")) == folder / "student"
    assert main(["mine", "s.jsonl", *OPTIONS[:1], "--device=cpu", "-o", "out.jsonl"]) == 0
    assert [record["prediction"] for record in read("out.jsonl")] == expected(student, "the ")


def test_as_the_model_card_says(tmp_path: Path) -> None:
    """Of a student that was copied away from its run."""
    spec = {
        "data": {"prefix": "summarize: ", "columns": {"source": "body"}, "max_source_tokens": 32, "source_language": "en_XX"},
        "evaluation": {"generation": {"beams": 3, "max_length": 9}},
    }  # fmt: skip
    text = f"# x\n<details><summary>The resolved spec</summary>\n\n```json\n{json.dumps(spec, indent=1)}\n```\n"
    (tmp_path / "README.md").write_text(text, "utf-8")
    found = trained_as(tmp_path)
    assert found is not None and found.generation is not None
    assert (found.prefix, found.column, found.max_source_tokens, found.source_language) == ("summarize: ", "body", 32, "en_XX")
    assert (found.generation.beams, found.generation.max_length) == (3, 9)
    (tmp_path / "README.md").write_text("# some model", "utf-8")
    assert trained_as(tmp_path) is None


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


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Failure) as raised, open_output(tmp_path / "no" / "out.txt", "digest"):
        raise AssertionError("it was opened")
    assert raised.value.code == "R369"
