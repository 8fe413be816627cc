"""A tokenizer trained on a corpus, as its family lays sequences out: of bytes, so that every text comes back as it was,
or BERT's word pieces.

The special tokens have the first ids, so that a model's config can be written before the tokenizer exists.
Deterministic: the same texts give the same file.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ..failure import Failure
from ..protocol import Family, TokenLayout

SMALLEST_VOCABULARY = 300
_GIVEN = ("input_ids", "attention_mask", "token_type_ids")  # the last where a layout marks the second text
_INSIDE = "##"  # before a piece that goes on within a word
_MOST_CHARACTERS = 1000  # as BERT's own vocabularies have them


def train_tokenizer(
    texts: Iterable[str],
    algorithm: Literal["bpe", "unigram", "wordpiece"],
    vocab_size: int,
    family: Family,
    max_length: int,
) -> Any:
    """A fast tokenizer of at most `vocab_size` tokens, special ones included.

    Raises `Failure` R212: a vocabulary too small for the 256 bytes, or a family that needs more than text to
    make its tokens (mBART's language codes).
    """
    layout = family.layout
    if layout is None:
        raise Failure(
            "R212",
            f"no tokenizer can be trained for {family.model_type}",
            "start from an existing model",
            spec_path="teacher.tokenizer",
        )
    if vocab_size < SMALLEST_VOCABULARY:
        raise Failure(
            "R212",
            f"a vocabulary of {vocab_size} has no room for the 256 bytes and {len(layout.special)} special tokens",
            f"take at least {SMALLEST_VOCABULARY}",
            spec_path="teacher.tokenizer.vocab_size",
        )
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if algorithm == "wordpiece":
        tokenizer = _train_wordpiece(texts, vocab_size, layout)
    else:
        tokenizer = _train_on_bytes(texts, algorithm, vocab_size, layout)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=layout.single, pair=layout.pair, special_tokens=[(token, id) for id, token in enumerate(layout.special)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **layout.named,
        model_max_length=max_length,
        model_input_names=list(_GIVEN if ":1" in (layout.pair or "") else _GIVEN[:2]),
        clean_up_tokenization_spaces=False,
    )


def _train_on_bytes(
    texts: Iterable[str], algorithm: Literal["bpe", "unigram"], vocab_size: int, layout: TokenLayout
) -> Any:
    from tokenizers import decoders, pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    train = _train_bpe if algorithm == "bpe" else _train_unigram
    tokenizer = train(texts, split, vocab_size, alphabet, layout)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _train_bpe(texts: Iterable[str], split: Any, vocab_size: int, alphabet: list[str], layout: TokenLayout) -> Any:
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=layout.named["unk_token"]))
    tokenizer.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(layout.special),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_unigram(texts: Iterable[str], split: Any, vocab_size: int, alphabet: list[str], layout: TokenLayout) -> Any:
    """By SentencePiece: the trainer of `tokenizers` adds its counts up in another order every time, and so
    gives slightly other scores."""
    import sentencepiece
    from tokenizers import Tokenizer, models

    words = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text))
    unseen = sorted(set(alphabet).difference(*words))  # they come after the training, as rare as can be
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "words.tsv"
        counts.write_text("".join(f"{word}\t{count}\n" for word, count in words.items()), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(counts),
            input_format="tsv",
            model_prefix=str(Path(folder) / "unigram"),
            model_type="unigram",
            vocab_size=vocab_size - len(layout.special) - len(unseen) + 1,  # it counts an <unk> of its own
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder) / "unigram.model"))
    pieces = [(model.id_to_piece(id), model.get_score(id)) for id in range(1, model.get_piece_size())]
    rarest = min(score for _, score in pieces)
    pieces += [(character, rarest - 1.0) for character in unseen]
    unknown = layout.special.index(layout.named["unk_token"])
    tokenizer = Tokenizer(models.Unigram([*((token, 0.0) for token in layout.special), *pieces], unk_id=unknown))
    tokenizer.add_special_tokens(list(layout.special))
    return tokenizer


def _train_wordpiece(texts: Iterable[str], vocab_size: int, layout: TokenLayout) -> Any:
    """Uncased, as bert-base-uncased splits texts. The trainer of `tokenizers` numbers the characters inside of words
    in another order every time, and takes other pairs among equally frequent ones: here they are numbered beforehand,
    as if they were special tokens. A word with a character that is too rare to have a number is unknown."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer, split = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in split.pre_tokenize_str(normalizer.normalize_str(text))
    )
    characters: Counter[str] = Counter()
    for word, count in words.items():
        characters.update(dict.fromkeys(word, count))
    most = sorted(characters, key=lambda character: (-characters[character], character))
    alphabet = sorted(most[: min(_MOST_CHARACTERS, (vocab_size - len(layout.special)) // 4)])
    inside = [_INSIDE + character for character in alphabet]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*layout.special, *alphabet, *inside],
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        continuing_subword_prefix=_INSIDE,
        show_progress=False,
    )
    unknown = layout.named["unk_token"]
    counting = Tokenizer(models.WordPiece(unk_token=unknown))
    counting.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    counting.train_from_iterator((" ".join([word] * count) for word, count in sorted(words.items())), trainer)
    tokenizer = Tokenizer(models.WordPiece(counting.get_vocab(), unk_token=unknown))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, split
    tokenizer.decoder = decoders.WordPiece(prefix=_INSIDE)
    tokenizer.add_special_tokens(list(layout.special))
    return tokenizer
