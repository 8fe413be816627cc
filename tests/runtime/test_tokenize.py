"""Trained tokenizers come back through AutoTokenizer; rows are cut before their end token; languages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.data.tokenize import Counts, embedded, language_token, prepare, tokenize
from distilc.runtime.data.train_tokenizer import train_tokenizer
from distilc.runtime.failure import Failure
from distilc.runtime.models.families import FAMILIES
from distilc.runtime.models.load import load_tokenizer
from distilc.runtime.plan.settings import Columns, DataSettings

TEXTS = [
    "Die Straße führt über den Fluß nach Süden.",
    "Ședința a început la ora șapte, în București.",
    "The council of the small town approved a new bridge.",
] * 20
ODD = ["  two  spaces, don't n't !", "tab\there\nline \u2028", "emoji 😀 漢字", "<s> in a text </s>", "ț Ț ă â î ß ẞ"]


def settings(**changes: Any) -> DataSettings:
    given = {
        "task": "translation", "train": (), "validation": (), "test": {}, "prefix": "",
        "columns": Columns(source="s", hypothesis=None, target="t", id=None), "max_source_tokens": 100, "max_target_tokens": 100,
        "source_language": None, "target_language": None, "labels": None,
    }  # fmt: skip
    return DataSettings(**{**given, **changes})


def rows_of(tokenizer: Any, pairs: list[tuple[str, str]], **changes: Any) -> tuple[list[Any], Counts]:
    counts = Counts()
    rows = ({"id": str(i), "source": source, "target": target} for i, (source, target) in enumerate(pairs))
    return list(tokenize(rows, tokenizer, settings(**changes), counts, lambda done: None)), counts


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].layout and FAMILIES[name].decoder_start])
def test_a_trained_tokenizer_comes_back_beside_a_model(tmp_path: Path, algorithm: Any, family: str) -> None:
    trained = train_tokenizer(TEXTS, algorithm, 400, FAMILIES[family], 512)
    ids = trained(TEXTS + ODD)["input_ids"]
    first, second = tmp_path / "first", tmp_path / "second"
    trained.save_pretrained(first)
    (first / "config.json").write_text(json.dumps({"model_type": family}), "utf-8")
    loaded = load_tokenizer(first)
    loaded.save_pretrained(second)
    (second / "config.json").write_text(json.dumps({"model_type": family}), "utf-8")
    for tokenizer in (loaded, load_tokenizer(second)):
        assert tokenizer(TEXTS + ODD)["input_ids"] == ids
        assert tokenizer(text_target=ODD)["input_ids"] == ids[-len(ODD) :]
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
        assert tokenizer.convert_tokens_to_ids("<s>") == 3
        assert tokenizer.model_max_length == 512
    begin = [3] if family == "bart" else []
    assert all(row[: len(begin)] == begin and row[-1] == 1 for row in ids)


# What its family puts around a text and around a pair, and the special tokens by their ids.
ENCODERS = {
    "bert": ("[CLS] {} [SEP]", "[CLS] {} [SEP] {} [SEP]", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
    "roberta": ("<s> {} </s>", "<s> {} </s> </s> {} </s>", ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]),
    "distilbert": ("[CLS] {} [SEP]", "[CLS] {} [SEP] {} [SEP]", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
}


@pytest.mark.parametrize(
    ("family", "algorithm"),
    [(family, kind) for family in ENCODERS for kind in ("bpe", "unigram", "wordpiece") if (family, kind) != ("roberta", "wordpiece")],
)
def test_an_encoder_s_tokenizer_comes_back_beside_a_model(tmp_path: Path, family: str, algorithm: Any) -> None:
    single, pair, special = ENCODERS[family]
    trained = train_tokenizer(TEXTS, algorithm, 400, FAMILIES[family], 512)
    ids = trained(TEXTS + ODD)["input_ids"]
    first, second = tmp_path / "first", tmp_path / "second"
    trained.save_pretrained(first)
    for folder, following in ((first, second), (second, None)):
        (folder / "config.json").write_text(json.dumps({"model_type": family}), "utf-8")
        tokenizer = load_tokenizer(folder)
        assert tokenizer(TEXTS + ODD)["input_ids"] == ids
        assert tokenizer.convert_ids_to_tokens(list(range(5))) == special
        assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token) == (special[0], special[special.index("[UNK]" if "[UNK]" in special else "<unk>")], special[4])
        assert (tokenizer.cls_token, tokenizer.sep_token) == tuple(single.format("").split())

        def tokens(*texts: str, tokenizer: Any = tokenizer) -> str:
            return " ".join(tokenizer.convert_ids_to_tokens(tokenizer(*texts)["input_ids"]))

        a, b = (" ".join(tokenizer.tokenize(text)) for text in TEXTS[:2])
        assert tokens(TEXTS[0]) == single.format(a) and tokens(TEXTS[0], TEXTS[1]) == pair.format(a, b)
        encoded = tokenizer(TEXTS[0], TEXTS[1])
        if family == "bert":
            half = len(a.split()) + 2
            assert encoded["token_type_ids"] == [0] * half + [1] * (len(encoded["input_ids"]) - half)
        else:  # no embeddings for them, or one alone
            assert not any(encoded.get("token_type_ids", ()))
        assert tokenizer.mask_token_id in tokenizer(f"a new {tokenizer.mask_token} bridge")["input_ids"]
        if following is not None:
            tokenizer.save_pretrained(following)


def test_word_pieces() -> None:
    """Pairs by frequency: `ab` (5 times) first, then `ab ##c` (3), then `x ##y` (2); small letters without accents."""
    texts = ["abc ABC, ábc", "ab", "ab", "xy xy"]
    tokenizer = train_tokenizer(texts, "wordpiece", 300, FAMILIES["bert"], 512)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    alphabet = list(",abcxy")
    assert names == [*ENCODERS["bert"][2], *alphabet, *(f"##{letter}" for letter in alphabet), "ab", "abc", "xy"]
    assert tokenizer.tokenize("Abcab, xyab y") == ["abc", "##a", "##b", ",", "xy", "##a", "##b", "y"]
    assert tokenizer.tokenize("abq ab") == ["[UNK]", "ab"]  # of q nothing is known
    assert tokenizer.decode(tokenizer("abcab, xy")["input_ids"], skip_special_tokens=True) == "abcab, xy"


@pytest.mark.slow
def test_word_pieces_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Equally frequent pairs abound here, and the trainer of `tokenizers` hashes words with another seed every time."""
    script = (
        "import sys; from distilc.runtime.data.train_tokenizer import train_tokenizer;"
        "from distilc.runtime.models.families import FAMILIES;"
        f"texts = {[chr(97 + i % 26) + chr(97 + i * 7 % 26) + chr(97 + i * 11 % 26) for i in range(300)]!r};"
        "print(train_tokenizer(texts, 'wordpiece', 300, FAMILIES['bert'], 9).backend_tokenizer.to_str())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second and '"##' in first


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_every_text_comes_back_exactly(algorithm: Any) -> None:
    tokenizer = train_tokenizer(TEXTS, algorithm, 400, FAMILIES["marian"], 512)
    texts = [text for text in TEXTS[:3] + ODD if "<s>" not in text]
    ids = tokenizer(texts)["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == texts
    assert all(2 not in row for row in ids)
    assert len(tokenizer) <= 400


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_the_same_texts_give_the_same_tokenizer(algorithm: Any) -> None:
    first, second = (train_tokenizer(iter(TEXTS), algorithm, 350, FAMILIES["t5"], 512).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("vocab_size", "family"), [(299, "marian"), (400, "mbart")])
def test_what_cannot_be_trained(vocab_size: int, family: str) -> None:
    with pytest.raises(Failure) as caught:
        train_tokenizer(TEXTS, "bpe", vocab_size, FAMILIES[family], 512)
    assert caught.value.code == "R212"


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_the_smallest_vocabulary(algorithm: Any) -> None:
    assert 260 <= len(train_tokenizer(TEXTS, algorithm, 300, FAMILIES["marian"], 512)) <= 300


def test_a_vocabulary_keeps_the_most_frequent_characters() -> None:
    """More than there is room for: a quarter of the entries, each at the beginning of a word and within."""
    rare = [chr(0x0400 + i) * 2 for i in range(200)]
    tokenizer = train_tokenizer([*TEXTS, *rare], "wordpiece", 300, FAMILIES["bert"], 512)
    assert len(tokenizer) <= 300
    assert "[UNK]" not in tokenizer.tokenize("the council") and tokenizer.tokenize(rare[-1]) == ["[UNK]"]


def test_a_long_row_is_cut_before_its_end(tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_folder("bart"))
    long, short = "the council of the small town", "the"
    rows, counts = rows_of(tokenizer, [(long, short), (short, long)], max_source_tokens=6, max_target_tokens=5)
    whole = tokenizer(long)["input_ids"]
    assert rows[0][0] == [*whole[:5], tokenizer.eos_token_id]
    assert rows[1][1] == [*whole[:4], tokenizer.eos_token_id]
    assert rows[0][2] == {"id": "0", "source": long, "target": short}  # the text stays whole
    assert (counts.examples, counts.truncated_source, counts.truncated_target) == (2, 1, 1)
    assert counts.source_tokens == sum(len(source) for source, _, _ in rows)


def test_the_prefix_is_put_before_sources_only(tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_folder("t5"))
    rows, _ = rows_of(tokenizer, [("a bridge", "a bridge")], prefix="the town: ")
    assert rows[0][0] == tokenizer("the town: a bridge")["input_ids"]
    assert rows[0][1] == tokenizer("a bridge")["input_ids"]


def test_mbart_rows_end_with_their_language(tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_folder("mbart"))
    pairs = [("the", "a bridge"), ("the council of the small town approved a new bridge", "a")]
    rows, counts = rows_of(
        tokenizer, pairs, source_language="ro_RO", target_language="fr_XX", max_source_tokens=6
    )
    end, romanian, french = tokenizer.convert_tokens_to_ids(["</s>", "ro_RO", "fr_XX"])
    assert [source[-2:] for source, _, _ in rows] == [[end, romanian]] * 2
    assert [target[-2:] for _, target, _ in rows] == [[end, french]] * 2
    assert len(rows[1][0]) == 6 and counts.truncated_source == 1


def test_an_unknown_language_is_a_diagnosis(tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_folder("mbart"))
    with pytest.raises(Failure) as caught:
        rows_of(tokenizer, [("a", "b")], source_language="en_XX", target_language="xx_YY")
    assert caught.value.code == "R211" and caught.value.spec_path == "data.target_language"


def test_real_marian_targets_use_their_own_pieces() -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "tokenizers" / "marian_en_mg"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    from transformers import MarianTokenizer

    tokenizer = MarianTokenizer.from_pretrained(folder, local_files_only=True)
    text = "Misaotra betsaka tompoko"
    (source, target, _), *_ = rows_of(tokenizer, [(text, text)])[0]
    assert source == tokenizer(text)["input_ids"]
    assert target == tokenizer(text_target=text)["input_ids"]
    assert source != target


@pytest.mark.parametrize("family", ["bart", "mbart", "pegasus", "marian", "t5"])
def test_a_cut_keeps_what_the_tokenizer_puts_at_the_end_and_no_more(family: str, tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    """An unknown word, a mask or an end token of the text itself is no end of the sequence."""
    tokenizer = load_tokenizer(tiny_tokenizer_folder(family))
    languages = {"source_language": "en_XX", "target_language": "de_DE"} if family == "mbart" else {}
    unknown = "漢字 漢字 漢字 漢字 漢字 </s>"
    ((source, target, _),), counts = rows_of(
        tokenizer, [(unknown, unknown)], max_source_tokens=5, max_target_tokens=5, **languages
    )
    end = [tokenizer.eos_token_id]
    for ids, language in ((source, "en_XX"), (target, "de_DE")):
        suffix = end + ([tokenizer.convert_tokens_to_ids(language)] if family == "mbart" else [])
        assert len(ids) == 5 and ids[-len(suffix) :] == suffix
        assert all(id == tokenizer.unk_token_id or id > 4 for id in ids[1 : -len(suffix)]), ids
        assert tokenizer.eos_token_id not in ids[: -len(suffix)]
    assert counts.truncated_source == counts.truncated_target == 1


def test_sources_begin_with_the_language_that_a_marian_model_writes() -> None:
    """What the compiler could not know where it had no vocabulary is looked at here."""

    class Tokenizer:
        model_max_length = 0

        def get_vocab(self) -> dict[str, int]:
            return {">>ron<<": 1}

    def settings(prefix: str, language: str | None) -> Any:
        return SimpleNamespace(prefix=prefix, source_language=None, target_language=language)

    prepare(Tokenizer(), settings(">>ron<< ", "ron"))
    prepare(Tokenizer(), settings("x ", "zh"))  # said for BLEU alone
    for prefix, language in ((">>fra<< ", "fra"), ("", "ron")):
        with pytest.raises(Failure, match="language") as caught:
            prepare(Tokenizer(), settings(prefix, language))
        assert (caught.value.code, caught.value.spec_path) == ("R211", "data.target_language")
    assert language_token(Tokenizer(), "ron") == ">>ron<< " and language_token(Tokenizer(), None) == ""


def test_a_token_without_an_embedding_is_told_with_its_example(tiny_tokenizer_folder: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_folder("bart"))
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    rows, _ = rows_of(tokenizer, [("the town", "a bridge"), ("the <mask>", "a road"), ("the town", "a <mask>")])
    limit = tokenizer.mask_token_id
    assert list(embedded(rows, tokenizer, None)) == rows == list(embedded(rows, tokenizer, (limit + 1, limit + 1)))
    for limits, said in (((limit, limit), "the source of the example 1 has the token '<mask>'"), ((limit + 1, limit), "the target of the example 2")):
        with pytest.raises(Failure) as caught:
            list(embedded(rows, tokenizer, limits))
        assert caught.value.code == "R228" and said in caught.value.message
