"""Rules about data sources."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path, PurePath
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, listed, quoted
from ..spec.file_kinds import FILE_KINDS, is_refused, not_read, unpacked
from ..spec.ways import data_sources
from .context import SpecContext


def check_sources(spec: SpecContext) -> None:
    """Keys of a data source that its kind does not have; files that nobody can read."""
    run, reporter = spec.run, spec.reporter
    for path, source in data_sources(run.data):
        if source.split is not None and source.files is not None:
            reporter.error(
                "E406",
                (*path, "split"),
                "files have no splits",
                "name the files of the split, or remove `split`",
                at="key",
            )
        for i, name in enumerate(source.files or ()):
            if PurePath(name).suffix and is_refused(name, FILE_KINDS):  # without a suffix: if it is there at all
                reporter.error("E412", (*path, "files", i), *not_read(name, FILE_KINDS))
        if source.hub is not None and _is_file(source.hub, (*path, "hub"), reporter):
            reporter.error(
                "E419",
                (*path, "hub"),
                f"{quoted(source.hub)} is a file, or has the suffix of one; `hub` names a data set on the hub",
                f"write `{{files: {source.hub}}}`",
            )
        if source.builtin is not None and source.split not in (None, *BUILTIN_SPLITS):
            near = did_you_mean(str(source.split), BUILTIN_SPLITS)
            reporter.error(
                "E406",
                (*path, "split"),
                f"{source.builtin} has no split {quoted(source.split)}: it has {_SPLITS}",
                f"did you mean {near}?" if near else "",
            )


def _is_file(name: str, path: Trail, reporter: Reporter) -> bool:
    """Is this name of a data set the name of a file, by its suffix or because there is one beside the spec?"""
    beside = Path(reporter.place(path).file).parent / name
    return PurePath(unpacked(name)).suffix.lower() in FILE_KINDS or isfile(beside)


BUILTIN_SPLITS = ("train", "validation", "test")
_SPLITS = listed(BUILTIN_SPLITS, "and")


def check_leakage(spec: SpecContext) -> None:
    """Validation and test data that are also training data (W401)."""
    run, reporter = spec.run, spec.reporter
    trained: dict[Any, Trail] = {}
    for path, source in data_sources(run.data):
        split = source.split or path[1]
        names: list[Any] = list(source.files or ())
        if not names:
            names = [(source.hub or source.builtin, source.config, source.revision, split)]
        for i, name in enumerate(names):
            where = (*path, "files", i) if source.files else path
            if path[1] == "train":
                trained.setdefault(name, where)
            elif name in trained:
                place = reporter.place(trained[name])
                reporter.warning(
                    "W401",
                    where,
                    f"`{path[1]}` reads the same data as `train`",
                    f"see {place.file}:{place.line}; use another split or file",
                    because=[trained[name]],
                )
