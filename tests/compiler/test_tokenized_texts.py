"""`check --data` with the tokenizer of a teacher that is here: what it does not know, where it puts no end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spec_texts import TINY

from distilc.compiler.checks.tokenized_texts import SAMPLED_ROWS
from distilc.compiler.pipeline import compile_spec, read_data
from distilc.compiler.resolve.site import SiteOptions, load_site

END = {
    "type": "TemplateProcessing", "pair": [],
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
}  # fmt: skip
KNOWN = {"source": "a cat sat", "target": "a cat"}
NO_UNKNOWN = b'{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}}'  # fails at the first one
UNKNOWN = {"source": "a dog sat", "target": "a cat"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    return tmp_path


def teacher(folder: Path, *, end: bool = True, **said: Any) -> None:
    """A T5 of which everything but its tokenizer is usual. `said`: of tokenizer_config.json."""
    folder.mkdir(parents=True)
    model = {"type": "WordLevel", "vocab": {"<unk>": 0, "</s>": 1, "a": 2, "cat": 3, "sat": 4}, "unk_token": "<unk>"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>", **said}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | ({"post_processor": END} if end else {})))
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "eos_token_id": 1}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def told(*rows: dict[str, str], reference: str = "./m", prefix: str = "") -> list[tuple[str, str, str]]:
    """What `check --data` says of a tokenizer and these training rows."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("spec.yaml").write_text(TINY)
    site = load_site(SiteOptions(offline=True, models=(Path("models"),))).site
    assert site is not None
    data = ["data.train={files: rows.jsonl}", f"data.prefix={json.dumps(prefix)}"]
    compiled = compile_spec(Path("spec.yaml"), (f"teacher={reference}", *data), site)
    assert not compiled.failed
    found = read_data(compiled, site=site).diagnostics
    return [(one.code, one.path, one.message) for one in found if one.code in ("W427", "W428")]


def test_words_that_it_does_not_know() -> None:
    """Of all tokens that a model is given, the ends are some: four of each source here."""
    teacher(Path("m"))
    assert told(KNOWN) == []
    expected = "unknown to the teacher's tokenizer: 12 % of the source tokens of train"
    assert told(KNOWN, UNKNOWN) == [("W427", "teacher", expected)]
    assert told(*[KNOWN] * 24, UNKNOWN) == []  # 1 of 100 tokens
    assert told(*[KNOWN] * 23, UNKNOWN)[0][0] == "W427"
    assert told(*[KNOWN] * SAMPLED_ROWS, *[UNKNOWN] * SAMPLED_ROWS) == []  # the first rows alone
    assert told(KNOWN, prefix="summarize: ")[0][2].endswith("20 % of the source tokens of train")


def test_targets_without_an_end() -> None:
    teacher(Path("m"), end=False)
    expected = "the teacher's tokenizer appends no end token to targets: 2 of 2 of train"
    assert told(KNOWN, KNOWN) == [("W428", "teacher", expected)]


@pytest.mark.parametrize("said", [{"tokenizer_class": "T5Tokenizer"}, {"tokenizer_class": None}, {"add_eos_token": True}])
def test_a_class_that_ends_texts_itself_is_left_to_the_run(said: dict[str, Any]) -> None:
    teacher(Path("m"), end=False, **said)
    assert told(KNOWN) == []
    assert [code for code, _, _ in told(UNKNOWN)] == ["W427"]


def test_a_teacher_of_the_hub_is_looked_for_where_models_are() -> None:
    teacher(Path("models", "some", "t5"), end=False)
    assert [code for code, _, _ in told(KNOWN, reference="some/t5")] == ["W428"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b'{"model": {"type": "Unigram"}}', NO_UNKNOWN])
def test_a_tokenizer_that_cannot_be_read_is_left_to_the_run(content: bytes | None) -> None:
    teacher(Path("m"), end=False)
    if content is None:
        Path("m/tokenizer.json").unlink()
        Path("m/spiece.model").write_bytes(b"")
    else:
        Path("m/tokenizer.json").write_bytes(content)
    assert told(UNKNOWN) == []


def test_half_a_character_is_no_text_for_it() -> None:
    teacher(Path("m"), end=False)
    assert told({"source": "a \ud800", "target": "a"}, KNOWN)[0][2].endswith("1 of 1 of train")
