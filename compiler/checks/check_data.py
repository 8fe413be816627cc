"""`check --data`: the local data files of a run, opened and read (E42x, W42x)."""

from __future__ import annotations

import json
from dataclasses import replace
from os.path import isfile
from pathlib import Path, PurePath

from ..diagnostics.diagnostic import Reporter, Trail, listed, shown_path
from ..resolve.heads import has_head, label_names
from ..spec.experiment import DataSource, Experiment
from ..spec.file_kinds import FILE_KINDS
from ..spec.ways import data_sources
from ..tasks.task import TASKS, column_keys
from .aligned_files import Rows, check_baseline_files, check_label_files, label_files
from .data_faults import Faults
from .row_check import Layout, RowCheck, tell_cut, tell_one_class, tell_unopened
from .text_remarks import TextRemarks, first_pairs, tell_remarks
from .tokenized_texts import tell_tokens


def check_data(run: Experiment, reporter: Reporter, teacher: Path | None = None) -> None:
    """Open every local data file of a run: are its rows what the spec says they are? `teacher`: a folder whose
    tokenizer is tried on them."""
    named = _teacher_labels(run, teacher)
    if named == []:
        reporter.error(
            "E202",
            ("data",),
            "the key `labels` is missing in `data`: the teacher has no names for its classes",
            "write `labels: [...]`, in the order of its outputs",
            at="key",
            because=[("task",), ("teacher",)],
        )
    layout = _layout(run, named or None)
    faults = Faults()
    seen: dict[Trail, dict[str, tuple[str, int]]] = {}
    partly: set[Trail] = set()  # splits of which not every id is known
    counts: dict[Trail, int | None] = {}  # rows of a split; None: not known
    read: list[tuple[Trail, Path, TextRemarks]] = []
    checks: list[RowCheck] = []
    for path, source in data_sources(run.data):
        split: Trail = path[:-1]
        # What is not there and what is of no known kind was reported.
        if not source.files or not all(_is_read(name) for name in source.files):
            partly.add(split)
            # A built-in corpus has as many rows as one asks for.
            _count(counts, split, source.limit if source.builtin else None)
            continue
        count = 0
        for i, name in enumerate(source.files):
            left = None if source.limit is None else source.limit - count
            if left == 0:
                break
            # Ids are unique in a split, whatever the number of its sources.
            here, remarks = (*path, "files", i), TextRemarks()
            of_split = replace(layout, several=split[1] != "train")
            check = RowCheck(Path(name), here, of_split, reporter, faults, seen.setdefault(split, {}), remarks)
            read.append((here, Path(name), remarks))
            checks.append(check)
            count += check.read(left)
            if not check.complete:
                partly.add(split)
                _count(counts, split, None)
        _count(counts, split, count)
        if count == 0:
            reporter.error("E424", (*path, "files"), f"no rows in {_named(source)}", "is it the right file?")
    faults.tell(reporter)
    tell_unopened(checks, reporter)
    tell_cut(checks, layout, reporter)
    tell_one_class(checks, reporter)
    tell_remarks(run, read, reporter)
    if teacher is not None and read:
        tell_tokens(run, teacher, first_pairs(read), reporter)
    train: Trail = ("data", "train")
    known = run.data.columns.id is not None and train not in partly
    whole = all(source.limit is None for source in run.data.train)
    check_label_files(run, reporter, Rows(seen.get(train) if known else None, whole=whole))
    tested = {}
    for name, sources in run.data.test.items():
        split = ("data", "test", name)
        numbered = run.data.columns.id is None and not any(source.builtin for source in sources)
        ids = None if run.data.columns.id is None or split in partly else seen.get(split)
        tested[name] = Rows(ids, counts[split], numbered).first(run.evaluation.limit)
    check_baseline_files(run, reporter, tested)


def _count(counts: dict[Trail, int | None], split: Trail, number: int | None) -> None:
    """Add the rows of a source to those of its split."""
    before = counts.get(split, 0)
    counts[split] = None if before is None or number is None else before + number


def num_bytes(run: Experiment) -> int:
    """The size of all local data files of a run; what is not there counts nothing."""
    files = [Path(name) for _, source in data_sources(run.data) for name in source.files or ()]
    files += [Path(labeller.file or "") for labeller in label_files(run).values()]
    files += [Path(file) for baseline in run.baselines.values() for file in baseline.predictions.values()]
    return sum(file.stat().st_size for file in files if isfile(file))


def _is_read(name: str) -> bool:
    return PurePath(name).suffix.lower() in FILE_KINDS and isfile(name)


def _named(source: DataSource) -> str:
    return listed((shown_path(Path(name)) for name in source.files or ()), "and")


def _teacher_labels(run: Experiment, teacher: Path | None) -> list[str] | None:
    """The labels of a spec that names none: those of the teacher's head, [] where that has no names. None: the spec
    names them, it needs none, or the teacher is not known."""
    if teacher is None or run.data.labels is not None or not TASKS[run.task].has_labels:
        return None
    try:
        config = json.loads((teacher / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    return label_names(config) if has_head(config, TASKS[run.task].head) else []


def _layout(run: Experiment, named: list[str] | None = None) -> Layout:
    """The columns by the keys that the spec of this task calls them by. `named`: the labels, where it names none."""
    data, columns = run.data, run.data.columns
    read, written = column_keys(run.task, paired=columns.hypothesis is not None)
    wanted = {read: columns.source, "hypothesis": columns.hypothesis, written: columns.target, "id": columns.id}
    limits = {} if TASKS[run.task].has_masking else {read: ("max_source_tokens", data.max_source_tokens)}  # else blocks
    if TASKS[run.task].writes_texts:
        limits[written] = ("max_target_tokens", data.max_target_tokens)
    held = {key: column for key, column in wanted.items() if column}
    labels = data.labels or (tuple(named) if named else None)
    numbers, counted = TASKS[run.task].num_outputs == 1, data.labels is not None
    return Layout(held, ("data", "columns"), labels, limits, numbers=numbers, counted=counted)
