"""`predict`: a student and a file of sources -> their texts, in order, or their classes (`predict_classes.py`).

The work is done in pieces, in the order of the file. With an output file, what is done is kept beside it until
all is: the same command goes on from there, and the file itself appears whole.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from ..data.files import LINES
from ..data.text_files import Layout, Texts, read_texts
from ..data.tokenize import language_token, prepare, tokenize_sources
from ..execution.console import Console
from ..execution.processes import num_cores
from ..execution.store import require_undamaged
from ..execution.unforeseen import unforeseen
from ..failure import Failure
from ..generation.ends import Ends
from ..messages.terminal import drawing_console, tell
from ..plan.settings import Columns, DataSettings, GenerationSettings
from .partial_output import open_output
from .predict_classes import Classifier, candidates_of
from .trained_as import TrainedAs, find_student, trained_as

Precision = Literal["fp32", "bf16", "fp16"]
PIECE = 512  # sources; what is lost when it is interrupted
SOURCES = ("source", "text", "document", "article")
LONGEST = 1024  # tokens of a source where neither the model nor its training nor an option says
OF_GENERATION = ("beams", "length_penalty", "min_length", "max_length", "no_repeat_ngram")
NOTHING_SAID = GenerationSettings(
    engine="transformers", beams=None, length_penalty=None, min_length=None, max_length=None, no_repeat_ngram=None,
    early_stopping=None,
)  # fmt: skip


@dataclass
class Job:
    """All there is to know before the first text. `sources` are token ids, `labels` those of an empty target, from
    which a multilingual model reads its language (None: it is none). `digest` is of all that the predictions depend
    on."""

    folder: Path
    texts: Texts
    sources: list[Any]
    labels: Any
    generation: GenerationSettings
    precision: Precision
    device: str
    digest: str


def main(argv: Sequence[str]) -> int:
    """`predict STUDENT FILE [options]`. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.min_length is not None and options.max_length is not None and options.min_length > options.max_length:
        _say(f"--min-length {options.min_length} is more than --max-length {options.max_length}")
        return 2
    try:
        candidates_of(options)
    except ValueError as error:
        _say(str(error))
        return 2
    try:
        with _as_file(options.file) as options.file:
            predict(options)
    except Failure as failure:
        Console().failure(failure, None)
        return failure.exit_code
    except KeyboardInterrupt:
        resumes = "; the same command goes on" if options.output is not None else ""
        _say(f"interrupted{resumes}")
        return 130
    except Exception as error:
        fault = _diagnosed(error, options)
        Console().failure(fault, None)
        return fault.exit_code
    return 0


def _diagnosed(error: Exception, options: argparse.Namespace) -> Failure:
    def log() -> str:
        with tempfile.NamedTemporaryFile("w", prefix="distilc-predict-", suffix=".log", delete=False) as file:
            file.writelines(traceback.format_exception(error))
        return file.name

    fewer = "work on fewer sources at a time (`--batch-size 1` is the least), or cut them (`--max-source-tokens`)"
    kept = "; with the first, what is done is kept" if options.output is not None else ""
    return unforeseen(error, memory=fewer + kept, kept=log)


def predict(options: argparse.Namespace) -> None:
    """Raises `Failure` R201 to R204, R361, R362 (the file), R366 (the student), R368 (its language), R369 (the
    output), R372 (the device), R401 (weights that are not what was written)."""
    folder = find_student(options.student, options.workspace)
    require_undamaged(folder)
    known = trained_as(folder)
    layout = Layout(options.column or _column(known, options.file), SOURCES, "--column", options.id_column, empty=False)
    texts = read_texts(options.file, layout)
    ends = Ends()
    if (classifier := _classifier(folder, known, texts, options)) is not None:
        _work_through(texts, options, classifier.digest, nullcontext(classifier))
        return
    job = _job(folder, known, texts, options)
    _work_through(texts, options, job.digest, _writer(job, options.batch_size, ends))
    if ends.told:
        _say(f"R355: warning: {ends.told}\n  hint: if they are cut in the middle, write longer ones with --max-length")


class Worker(Protocol):
    """What answers, opened. `name`: of what it works with; `note`: why that is not what was asked for."""

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str: ...

    def piece(self, piece: range, show: Callable[[int], None]) -> list[dict[str, Any]]:
        """The records of these texts, in order."""


def _work_through(
    texts: Texts, options: argparse.Namespace, digest: str, opened: AbstractContextManager[Worker]
) -> None:
    """Every text, a piece at a time; what is there of the same `digest` is not done again."""
    started = time.monotonic()
    with open_output(options.output, digest) as output, opened as worker:
        if output.done:
            _say(f"{output.done:,} of {len(texts):,} predictions are there from before")
        if worker.note:
            _say(f"note: {worker.note}")
        with _progress(len(texts), output.done) as show:
            begun = output.done
            while output.done < len(texts):
                output.write(worker.piece(range(output.done, min(output.done + PIECE, len(texts))), show))
    seconds = time.monotonic() - started
    if options.output is not None:
        rate = (len(texts) - begun) / max(seconds, 1e-9)
        _say(f"wrote {options.output}: {len(texts):,} predictions by {worker.name} in {seconds:.1f} s ({rate:.1f}/s)")


def _classifier(folder: Path, known: TrainedAs | None, texts: Texts, options: argparse.Namespace) -> Classifier | None:
    """What answers for a student that classifies; None: it writes texts. Raises `Failure` R361, R372, R373: no NLI
    model is asked for candidate labels."""
    from ..models.families import num_positions
    from ..models.load import has_classes, load_tokenizer, model_folder, read_config

    folder = model_folder(folder)
    config = read_config(folder)
    if not has_classes(config):
        if options.candidate_labels is not None or options.pair_column is not None:
            raise Failure("R373", f"the model in {folder} writes texts: it does not sort them into classes",
                          "leave --candidate-labels and --pair-column out, or name a classifier")  # fmt: skip
        return None
    settings = _reading(_chooser(known, options), num_positions(config))
    prepare(load_tokenizer(folder), settings)
    device, precision = _device(known, options)
    return Classifier(folder, known, texts, settings, options, device, precision)


@contextmanager
def _as_file(file: Path) -> Iterator[Path]:
    """The file; for `-` one with what stands on the standard input, while it is read."""
    if file != Path("-"):
        yield file
        return
    content = sys.stdin.buffer.read()
    suffix = ".jsonl" if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else LINES
    with tempfile.TemporaryDirectory(prefix="distilc-predict-") as temporary:
        file = Path(temporary) / f"standard-input{suffix}"
        file.write_bytes(content)
        yield file


def _column(known: TrainedAs | None, file: Path) -> str | None:
    """The column that the student was trained on, where the file has it: other files have other names."""
    if known is None or known.column is None or file.suffix.lower() == LINES:
        return None
    from ..data.files import read_file

    _, first = next(iter(read_file(file, None, "")), ("", None))
    head = known.column.split(".")[0]
    return known.column if isinstance(first, dict) and (known.column in first or head in first) else None


def _job(folder: Path, known: TrainedAs | None, texts: Texts, options: argparse.Namespace) -> Job:
    import numpy as np

    from ..generation.search import has_languages
    from ..models.families import num_positions
    from ..models.load import load_tokenizer, model_folder, read_config

    folder = model_folder(folder)
    config = read_config(folder)
    device, precision = _device(known, options)
    settings = _reading(_chooser(known, options), num_positions(config))
    tokenizer = load_tokenizer(folder)
    languages = (settings.source_language, settings.target_language)
    if has_languages(tokenizer) and None in languages:
        raise Failure("R368", f"{config.model_type} writes the language into every sequence, and nothing says which",
                      "give --source-language and --target-language, for example en_XX and ro_RO")  # fmt: skip
    if not settings.prefix.startswith(">>"):
        settings = replace(settings, prefix=language_token(tokenizer, settings.target_language) + settings.prefix)
    prepare(tokenizer, settings)
    limit, prefixed = settings.max_source_tokens, (settings.prefix + text for text in texts.texts)
    tokenized = list(tokenize_sources(prefixed, tokenizer, limit))
    sources = [np.asarray(ids, dtype=np.int32) for ids, _ in tokenized]
    labels = tokenizer(text_target="")["input_ids"] if has_languages(tokenizer) else None
    cut = [place for place, (_, is_cut) in zip(texts.places, tokenized, strict=True) if is_cut]
    if cut:
        _say(f"{len(cut):,} of {len(texts):,} sources are cut to {limit} tokens, the first: {cut[0]}")
    if known is None and not settings.prefix:
        _say("nothing beside the model says how it was trained: no prefix is put before the sources (--prefix)")
    generation = _generation(known, options, precision)
    files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(folder.glob("*.*"))]
    tokens = [[source.tolist() for source in sources], labels]
    facts = [str(folder.resolve()), files, texts.ids, list(texts.texts), tokens, asdict(generation), precision]
    digest = hashlib.sha256(json.dumps(facts, allow_nan=False).encode()).hexdigest()
    return Job(folder, texts, sources, labels, generation, precision, device, digest)


def _chooser(known: TrainedAs | None, options: argparse.Namespace) -> Callable[[str, Any], Any]:
    """(setting, default) -> what the options say of it, or else the training of the student."""

    def chosen(name: str, default: Any) -> Any:
        asked = getattr(options, name)
        return asked if asked is not None else getattr(known, name, None) or default

    return chosen


def _device(known: TrainedAs | None, options: argparse.Namespace) -> tuple[str, Precision]:
    """Where, and in which precision. Raises `Failure` R372: the device is not here."""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise Failure("R372", "--device cuda: torch finds no CUDA device here",
                      "leave --device out; `distilc doctor` shows what is here")  # fmt: skip
    torch.set_num_threads(num_cores())
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    default = "fp32" if device == "cpu" or known is None or known.precision is None else known.precision
    return device, cast(Precision, options.precision or default)


def _generation(known: TrainedAs | None, options: argparse.Namespace, precision: Any) -> GenerationSettings:
    """As the run evaluated its student, with what the options say over it. Where nothing is known of a run, the
    fast engine, if it is installed."""
    given = {name: value for name in OF_GENERATION if (value := getattr(options, name)) is not None}
    default = None if known is None else known.max_target_tokens
    if known is not None and known.generation is not None:
        settings = replace(known.generation, n_best=None, sampling=None, default_max_length=default, **given)
        if options.engine == "auto":
            return settings
    else:
        settings = replace(NOTHING_SAID, default_max_length=default, **given)
    engine = options.engine
    if engine == "transformers" or (engine == "auto" and importlib.util.find_spec("ctranslate2") is None):
        return replace(settings, engine="transformers", compute_type=None, named=False)
    return replace(settings, engine="ctranslate2", compute_type=precision, named=engine == "ctranslate2")


def _reading(chosen: Callable[[str, Any], Any], positions: int | None) -> DataSettings:
    """`positions`: those of the model; None: it has no table of them, and reads sources of any length."""
    limits = [limit for limit in (chosen("max_source_tokens", None), positions) if limit is not None]
    return DataSettings(
        task="", train=(), validation=(), test={}, labels=None, max_target_tokens=LONGEST,
        columns=Columns(source="source", hypothesis=None, target="target", id=None),
        prefix=chosen("prefix", ""), source_language=chosen("source_language", None),
        target_language=chosen("target_language", None),
        max_source_tokens=min(limits, default=LONGEST),
    )  # fmt: skip


@contextmanager
def _engine(job: Job) -> Iterator[Any]:
    """The engine, opened; a conversion that it needs lives as long as it does."""
    from ..generation.choose import open_engine

    with tempfile.TemporaryDirectory(prefix="distilc-predict-") as temporary:
        converted = None
        if job.generation.engine == "ctranslate2":
            from ..generation.conversion import convert

            converted = Path(temporary) / "converted"
            converted.mkdir()
            convert(job.folder, converted, job.generation.compute_type or "fp32")
        yield open_engine(
            job.generation, job.folder, converted, precision=job.precision, device=job.device, labels=job.labels
        )


@dataclass
class Writer:
    """An engine that writes."""

    engine: Any
    job: Job
    batch_size: int | None
    ends: Ends

    @property
    def name(self) -> str:
        return str(self.engine.name)

    @property
    def note(self) -> str:
        return str(getattr(self.engine, "note", ""))

    def piece(self, piece: range, show: Callable[[int], None]) -> list[dict[str, Any]]:
        return _piece(self.engine, self.job, piece, self.batch_size, show, self.ends)


@contextmanager
def _writer(job: Job, batch_size: int | None, ends: Ends) -> Iterator[Writer]:
    with _engine(job) as engine:
        yield Writer(engine, job, batch_size, ends)


def _piece(
    engine: Any, job: Job, piece: range, batch_size: int | None, show: Callable[[int], None], ends: Ends
) -> list[dict[str, Any]]:
    """The records of these sources, in order. `ends` counts how their texts end."""
    texts: dict[int, str] = {}

    def on_batch(positions: Sequence[int], found: Sequence[Sequence[Any]]) -> None:
        for position, hypotheses in zip(positions, found, strict=True):
            texts[int(position)] = hypotheses[0].text
            ends.add(engine.limit + 1 if hypotheses[0].num_tokens >= engine.limit else None)
        show(piece.start + len(texts))

    engine.generate([job.sources[i] for i in piece], on_batch, ids=list(piece), batch_size=batch_size)
    ids = job.texts.ids
    return [
        {**({"id": ids[i]} if ids is not None else {}), "source": job.texts.texts[i], "prediction": texts[n]}
        for n, i in enumerate(piece)
    ]


@contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=drawing_console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=total, completed=done)
        yield lambda done: bar.update(task, completed=done)


def _say(line: str) -> None:
    tell(line, err=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distilc predict", description=__doc__)
    parser.add_argument("student")
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--workspace", type=Path, required=True)
    for name in (
        "column", "id-column", "pair-column", "prefix", "source-language", "target-language", "candidate-labels",
        "hypothesis-template",
    ):  # fmt: skip
        parser.add_argument(f"--{name}")
    for name in ("max-source-tokens", "beams", "min-length", "max-length", "no-repeat-ngram", "batch-size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--length-penalty", type=float)
    parser.add_argument("--multi-label", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--engine", choices=["auto", "ctranslate2", "transformers"], default="auto")
    return parser
