"""Data sources of a spec -> what names them in a plan: file hashes, commits, versions of built-in corpora."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isdir, isfile
from pathlib import Path, PurePath
from typing import Any

from ..diagnostics.diagnostic import Reporter, Trail, listed
from ..diagnostics.regular_file import why_not
from ..spec.experiment import DataSource
from ..spec.file_kinds import FILE_KINDS, is_refused
from ..spec.paths import missing_hint, shown_location
from .fingerprint import UNRESOLVED, Fingerprints, fingerprint_of
from .hub import HubError, cached_commit, fetch_commit, is_offline
from .site import Site

# Version of the generator of each corpus that the runtime ships; a test compares them with the runtime's.
BUILTIN_VERSIONS = {"bulletins": "1"}


def resolve_sources(
    sources: Sequence[DataSource],
    path: Trail,
    split: str,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(sources as a plan has them, fingerprint -> file). `split` is taken where a source names none.

    `fingerprints` None: nothing is hashed and nobody is asked, everything is "unresolved"; files must be
    there all the same. Reports E508 (a file that is not there or cannot be read), E412 (one without a suffix).
    File locations are absolute here.
    """
    resolved: list[dict[str, Any]] = []
    locations: dict[str, str] = {}
    for i, source in enumerate(sources):
        here = (*path, i)
        entry: dict[str, Any] = {
            "kind": "files",
            "name": None,
            "config": source.config,
            "revision": None,
            "split": source.split,
            "fingerprints": [],
            "limit": source.limit,
        }
        if source.files is not None:
            entry["fingerprints"] = _files(source.files, (*here, "files"), reporter, fingerprints, locations)
            entry |= table_fact(source.files)
        elif source.hub is not None:
            revision = _data_commit(source.hub, source.revision or "main", site, fingerprints)
            entry |= {"kind": "hub", "name": source.hub, "revision": revision, "split": source.split or split}
        else:
            assert source.builtin is not None
            version = BUILTIN_VERSIONS[source.builtin]
            entry |= {"kind": "builtin", "name": source.builtin, "revision": version}
            entry["split"] = source.split or split
        resolved.append(entry)
    return resolved, locations


def table_fact(files: Sequence[str]) -> dict[str, str]:
    """What a plan says of files among which there are tables of tab-separated cells: these have no quoting, and once
    were read as if they had. So nothing that was made of them then has the key of what is made of them now."""
    return {"table": "tabs"} if any(PurePath(file).suffix.lower() == ".tsv" for file in files) else {}


def _files(
    files: Sequence[str],
    path: Trail,
    reporter: Reporter,
    fingerprints: Fingerprints | None,
    locations: dict[str, str],
) -> list[str]:
    found: list[str] = []
    for i, text in enumerate(files):
        file, here = Path(text), (*path, i)
        if file.suffix and is_refused(text, FILE_KINDS):
            continue  # the rules said so
        if not file.suffix and isfile(file):
            message = f"{shown_location(file, here, reporter)} has no suffix, so its format is not known"
            reporter.error("E412", here, message, f"the suffixes are {listed(FILE_KINDS, 'and')}")
            continue
        in_folder = "list the files in it, as in `files: [a.jsonl, b.jsonl]`"
        fingerprint = find_file(text, "data file", here, reporter, fingerprints, in_folder)
        if fingerprint is not None:
            found.append(fingerprint)
            locations[fingerprint] = str(file)
    return found


def find_file(
    place: str, what: str, path: Trail, reporter: Reporter, fingerprints: Fingerprints | None, in_folder: str = ""
) -> str | None:
    """The fingerprint of a file that a spec names; None: it is not there or cannot be read, and E508 is reported.
    `what` it is, in words; `in_folder`: what to do where it is a folder."""
    file = Path(place)
    shown = shown_location(file, path, reporter)
    if not isfile(file):
        hint = (in_folder if isdir(file) else "") or missing_hint(place, path, reporter)
        reporter.error("E508", path, f"the {what} {shown} {why_not(file)}", hint)
        return None
    try:
        return fingerprint_of(file, fingerprints)
    except OSError as error:
        reporter.error("E508", path, f"cannot read {shown}: {error.strerror}", "check its permissions")
        return None


def _data_commit(repository: str, revision: str, site: Site, fingerprints: Fingerprints | None) -> str:
    commit = cached_commit("datasets", repository, revision)
    if commit is None and fingerprints is not None and not is_offline(site.offline):
        try:
            commit = fetch_commit("datasets", repository, revision)
        except HubError:
            commit = None  # the data stage asks again when it needs the rows, and says why it cannot have them
    return commit or UNRESOLVED
