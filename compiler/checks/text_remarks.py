"""`check --data`: what the texts of a whole set say that no single row does. Letters that a metric does not see,
control tokens of models in texts, test sources that are trained on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..diagnostics.diagnostic import Reporter, Trail, listed, quoted, shown_path
from ..extensions.built_in import metrics_set_by
from ..resolve.scoring import measured, resolve_scoring
from ..spec.experiment import Experiment
from ..spec.ways import trainings
from ..tasks.task import LABEL_METRICS
from .data_faults import list_files
from .tokenized_texts import SAMPLED_ROWS, Pair

_MEASURED = ("validation", "metrics")
MOST_LOST = 50.0  # percent of the letters
SAMPLED_TEXTS = 2000  # of a file, for its letters
# What tokenizers read as one token that means something else than its letters.
CONTROL = re.compile(r"</?s>|<pad>|<unk>|<mask>|<extra_id_\d+>|<\|endoftext\|>|\[(?:CLS|SEP|PAD|MASK|UNK)\]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Of scripts that put no spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer; kana, Bopomofo and ideographs.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af]"
)


@dataclass
class TextRemarks:
    """Of one file. `sources`: hashes of its sources; `control`: rows with a control token, the first with it; `first`:
    the texts of its first rows, by row and key."""

    sources: list[int] = field(default_factory=list)
    control: int = 0
    first_control: tuple[int, str] | None = None
    letters: int = 0
    ascii_letters: int = 0
    unspaced: int = 0
    first: dict[int, dict[str, str]] = field(default_factory=dict)
    _sampled: int = 0
    _row: int = 0

    def add(self, row: int, key: str, text: str) -> None:
        """A text of a row. `key`: source or target."""
        if key == "source":
            self.sources.append(hash(text))
        if len(self.first) < SAMPLED_ROWS or row in self.first:
            self.first.setdefault(row, {})[key] = text
        if (found := CONTROL.search(text)) is not None and self._row != row:
            self._row = row
            self.control += 1
            self.first_control = self.first_control or (row, found[0])
        if key == "target" and self._sampled < SAMPLED_TEXTS:
            self._sampled += 1
            letters = [letter for letter in unicodedata.normalize("NFC", text) if letter.isalpha()]
            self.letters += len(letters)
            self.ascii_letters += sum(map(str.isascii, letters))
            self.unspaced += sum(_UNSPACED.match(letter) is not None for letter in letters)


def first_pairs(read: Sequence[tuple[Trail, Path, TextRemarks]]) -> dict[str, list[Pair]]:
    """Split -> source and target of its first rows, of those that have both and can be written as UTF-8."""
    found: dict[str, list[Pair]] = {}
    for path, _, remarks in read:
        names = [str(step) for step in path[1:-3]]  # the one test set that is not named is called test
        pairs = found.setdefault("test" if names == ["test", "test"] else ".".join(names), [])
        texts = [(row["source"], row["target"]) for row in remarks.first.values() if row.keys() == {"source", "target"}]
        pairs += [pair for pair in texts if not _SURROGATE.search("".join(pair))][: SAMPLED_ROWS - len(pairs)]
    return found


def tell_remarks(run: Experiment, read: Sequence[tuple[Trail, Path, TextRemarks]], reporter: Reporter) -> None:
    """`read`: the files that were read, by where the spec names them. Reports E428 and W424 (letters that a metric does
    not see), W425 (control tokens), W426 (test sources that are trained on)."""
    # A file that is read for several splits counts once.
    controlled: dict[Path, tuple[Trail, TextRemarks, tuple[int, str]]] = {}
    for path, file, remarks in read:
        if remarks.first_control is not None:
            controlled.setdefault(file, (path, remarks, remarks.first_control))
    if controlled:
        (file, (path, remarks, (row, token))), *others = controlled.items()
        also = f"; so do rows of {list_files([shown_path(other) for other, _ in others])}" if others else ""
        reporter.warning(
            "W425",
            path,
            f"{shown_path(file)}: {remarks.control:,} rows contain a control token in a text, the first: "
            f"row {row}, {quoted(token)}{also}",
            "a tokenizer may read it as the end or the padding of a text: remove it from the data",
            because=[other for _, (other, _, _) in others],
        )
    trained = {source for path, _, remarks in read if path[1] == "train" for source in remarks.sources}
    for path, file, remarks in read:
        if path[1] != "test" or not trained:
            continue
        rows = [row for row, source in enumerate(remarks.sources, 1) if source in trained]
        if rows and not _same_file(path, file, read):
            reporter.warning(
                "W426",
                path,
                f"{len(rows):,} of {len(remarks.sources):,} test sources of {shown_path(file)} are also training "
                f"sources, the first: row {rows[0]}",
                "scores on training texts say nothing about other texts: remove them from one of the two",
            )
    _tell_letters(run, read, reporter)


def _same_file(path: Trail, file: Path, read: Sequence[tuple[Trail, Path, TextRemarks]]) -> bool:
    """Is this file one of the training files, which W401 says already?"""
    return any(other[1] == "train" and file == trained for other, trained, _ in read)


def _tell_letters(run: Experiment, read: Sequence[tuple[Trail, Path, TextRemarks]], reporter: Reporter) -> None:
    """For each split: metrics that do not see its references."""
    told: set[tuple[str, bool]] = set()
    decisions = list(deciding(run))
    for path, file, remarks in read:
        for metrics, message, hint in _unseen(run, remarks):
            depends = [(where, metric) for split, where, metric in decisions if split == path[1] and metric in metrics]
            for where, metric in depends:
                if (".".join(map(str, where)), True) not in told:
                    told.add((".".join(map(str, where)), True))
                    # Which one decides may follow from what is measured.
                    shown = where if reporter.written(where) else (*where[: where.index("stopping")], *_MEASURED)
                    reporter.error(
                        "E428", shown, f"{shown_path(file)}: {message}: {metric} cannot be used to decide", hint,
                        because=[path],
                    )  # fmt: skip
            if not depends and path[1] == "test" and (metrics[0], False) not in told:
                told.add((metrics[0], False))
                named = f"{shown_path(file)}, of which {listed(metrics, 'and')} are measured"
                reporter.warning("W424", path, f"{named}: {message}", hint)


def deciding(run: Experiment) -> Iterator[tuple[str, Trail, str]]:
    """(split, key of the spec, metric) of what stops a training, chooses its best or drops labels."""
    for path, part in trainings(run):
        yield "validation", (*path, "stopping", "monitor"), part.stopping.monitor
        for metric in part.stopping.retention or ():
            yield "validation", (*path, "stopping", "retention", metric), metric
    for name in run.targets:
        if (labeller := run.pseudo_labels.get(name)) is not None:
            for metric in LABEL_METRICS:
                if getattr(labeller, f"min_{metric}") is not None:
                    yield "train", ("pseudo_labels", name, "keep", f"min_{metric}"), metric


def _unseen(run: Experiment, remarks: TextRemarks) -> Iterator[tuple[list[str], str, str]]:
    """(metrics, why they say nothing of these texts, what to write)."""
    if not remarks.letters:
        return
    asked, scoring = measured(run), resolve_scoring(run)
    lost = 100 * (1 - remarks.ascii_letters / remarks.letters)
    rouge = [metric for metric in metrics_set_by("rouge") if metric in asked]
    if rouge and scoring.rouge_tokenizer == "default" and lost > MOST_LOST:
        problem = f"ROUGE's tokenizer keeps only the letters a to z; {lost:.0f} % of the targets' letters are others"
        yield rouge, problem, "write `evaluation: {rouge: {tokenizer: unicode}}`"
    together = 100 * remarks.unspaced / remarks.letters
    if "bleu" in asked and scoring.bleu_tokenize in ("13a", "intl", "none") and together > MOST_LOST:
        yield (
            ["bleu"],
            f"BLEU's tokenizer {scoring.bleu_tokenize} splits at spaces, and {together:.0f} % of the "
            "letters of the targets are of scripts without spaces",
            "write `evaluation: {bleu: {tokenize: zh}}`; or ja-mecab, ko-mecab, or char for any script",
        )
