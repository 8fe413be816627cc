"""`predict` with a student that classifies: the class of each text, or of each pair, with its probability; of a
regression the number.

Of a model of natural language inference also which of some candidate labels a text is about (zero-shot). Source: domain
facts 8.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.files import LINES
from ..data.rows import Rows
from ..data.text_files import Layout, Texts, read_texts
from ..failure import Failure
from ..plan.settings import DataSettings
from ..tasks.classification import CLASSIFICATION, encoded
from .trained_as import TrainedAs

TEMPLATE = "This example is {}."
BATCH_TOKENS = 8192
PAIRED = ("hypothesis", "sentence2", "text_pair")


@dataclass(frozen=True)
class Candidates:
    """Labels that need not have been trained for. `template`: the hypothesis, with {} for the label; `several`: may a
    text be about several of them?"""

    labels: tuple[str, ...]
    template: str
    several: bool

    def probabilities(self, logits: Any, outputs: Mapping[str, int]) -> list[float]:
        """Of each label, by the logits (labels, classes) of its hypothesis: among the labels or, where several may
        hold or there is only one, of entailment against contradiction. `outputs`: label2id of the model."""
        entailment = entailment_of(outputs)
        if not self.several and len(self.labels) > 1:
            scores = logits[:, entailment]
            shares = np.exp(scores - scores.max())
            return [float(share) for share in shares / shares.sum()]
        contradiction = -1 if entailment == 0 else 0
        return [float(1 / (1 + np.exp(row[contradiction] - row[entailment]))) for row in logits]


def entailment_of(outputs: Mapping[str, int]) -> int:
    """The output that says that a hypothesis follows. Raises `Failure` R373: the model has none."""
    found = [number for name, number in outputs.items() if name.casefold().startswith("entail")]
    if not found:
        raise Failure(
            "R373",
            f"no class of the student is called entailment: they are {', '.join(outputs)}",
            "--candidate-labels needs a model of natural language inference",
        )
    return found[0]


def candidates_of(options: argparse.Namespace) -> Candidates | None:
    """What the options say. Raises ValueError with what is wrong."""
    if options.candidate_labels is None:
        if options.multi_label or options.hypothesis_template is not None:
            raise ValueError("--multi-label and --hypothesis-template are for --candidate-labels")
        return None
    labels = tuple(dict.fromkeys(name for part in options.candidate_labels.split(",") if (name := part.strip())))
    template = options.hypothesis_template or TEMPLATE
    if not labels:
        raise ValueError("--candidate-labels names no label; write, for example, --candidate-labels=sports,politics")
    if "{}" not in template:
        raise ValueError(f"--hypothesis-template has no {{}} for the label, as {TEMPLATE!r} has")
    return Candidates(labels, template, options.multi_label)


class Classifier:
    """The work on a file. `name`: of what does it; `digest` is of all that the answers depend on."""

    name, note = "transformers", ""

    def __init__(
        self, folder: Path, known: TrainedAs | None, texts: Texts, settings: DataSettings, options: argparse.Namespace,
        device: str, precision: Any,
    ) -> None:  # fmt: skip
        """Raises `Failure` R361: the file lacks the second texts, R373: no class is called entailment."""
        from ..models.load import load_model, load_tokenizer

        self._texts, self._settings, self._batch_size, self._device = texts, settings, options.batch_size, device
        self._candidates = candidates_of(options)
        self._seconds = None if self._candidates is not None else _seconds(known, options)
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(folder, precision=precision).to(device)
        self._is_regression = self._model.config.problem_type == "regression"
        self._names = [str(self._model.config.id2label[i]) for i in range(self._model.config.num_labels)]
        if self._candidates is not None:
            entailment_of(self._model.config.label2id)
        files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(folder.glob("*.*"))]
        facts = [
            str(folder.resolve()), files, texts.ids, list(texts.texts), self._seconds, repr(self._candidates),
            settings.prefix, settings.max_source_tokens, precision,
        ]  # fmt: skip
        self.digest = hashlib.sha256(json.dumps(facts, allow_nan=False).encode()).hexdigest()

    def piece(self, piece: range, show: Callable[[int], None]) -> list[dict[str, Any]]:
        """The records of these texts, in order."""
        found = []
        asked = self._candidates
        each = 1 if asked is None else len(asked.labels)
        logits = self._logits([row for i in piece for row in self._rows(i)])
        for n, i in enumerate(piece):
            of_text = logits[n * each : (n + 1) * each]
            ids = self._texts.ids
            told = {
                **({"id": ids[i]} if ids is not None else {}),
                "source": self._texts.texts[i],
                **({"hypothesis": self._seconds[i]} if self._seconds is not None else {}),
            }
            if self._is_regression:
                found.append({**told, "prediction": float(of_text[0, 0])})
                show(i + 1)
                continue
            names: Sequence[str] = self._names if asked is None else asked.labels
            shares = (
                softmax(of_text[0]) if asked is None else asked.probabilities(of_text, self._model.config.label2id)
            )
            best = int(np.argmax(shares))
            found.append({
                **told,
                "prediction": names[best],
                "probability": round(shares[best], 6),
                "probabilities": {name: round(share, 6) for name, share in zip(names, shares, strict=True)},
            })  # fmt: skip
            show(i + 1)
        return found

    def _rows(self, i: int) -> list[dict[str, str]]:
        """What is read of a text."""
        row = {"source": self._texts.texts[i]}
        if self._candidates is not None:
            asked = self._candidates
            return [{**row, "hypothesis": asked.template.replace("{}", label)} for label in asked.labels]
        return [row if self._seconds is None else {**row, "hypothesis": self._seconds[i]}]

    def _logits(self, rows: Sequence[Mapping[str, str]]) -> Any:
        """(rows, classes)"""
        from ..data.batches import sorted_batches
        from ..tasks.row_logits import logits_of

        cut: Literal["longest_first", "only_first"] = "longest_first" if self._candidates is None else "only_first"
        tokens = _Tokens([(ids, types) for ids, types, _ in encoded(rows, self._tokenizer, self._settings, cut)])
        found: Any = np.zeros((len(rows), len(self._names)), np.float32)
        lengths = np.array([len(tokens.source(i)) for i in range(len(rows))], np.int64)
        for ids in sorted_batches(lengths, BATCH_TOKENS, self._batch_size):
            batch = CLASSIFICATION.collate(tokens, ids, self._tokenizer.pad_token_id)
            found[ids] = logits_of(self._model, batch, self._device)
        return found


class _Tokens(Rows):
    """Rows that are on no disk, as the task reads them."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        self._rows = rows

    def source(self, i: int) -> Any:
        return self._rows[i][0]

    def target(self, i: int) -> Any:
        return [-100]  # nothing is known of it

    def token_types(self, i: int) -> Any:
        types = self._rows[i][1]
        return np.asarray(types, np.int8) if any(types) else None


def softmax(logits: Any) -> list[float]:
    shares = np.exp(logits - logits.max())
    return [float(share) for share in shares / shares.sum()]


def _seconds(known: TrainedAs | None, options: argparse.Namespace) -> list[str] | None:
    """The second texts of pairs; None: the student reads single texts."""
    column = options.pair_column or (None if known is None else known.pair_column)
    if column is None:
        return None
    if options.file.suffix.lower() == LINES:
        raise Failure(
            "R361",
            f"the student classifies pairs of texts, and {options.file} has one text a line",
            f"give rows with two columns (the second is {column!r}), or --candidate-labels",
        )
    return list(read_texts(options.file, Layout(column, PAIRED, "--pair-column", options.id_column, empty=False)).texts)
