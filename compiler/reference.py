"""An existing model, as a spec names it -> its architecture, its settings in the plan, its place here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .architecture import Architecture, ArchitectureError, architecture_of, read_config
from .diagnostics import Reporter, Trail, shown_path
from .experiment import ModelReference
from .fingerprint import UNRESOLVED, Fingerprints, weight_files
from .hub import HubError, cached_commit, cached_snapshot, fetch_commit, fetch_config, is_offline
from .site import Site


@dataclass(frozen=True)
class ResolvedModel:
    """`name` is what the spec calls it; `settings` are a teacher stage's; `locations` its `execution`'s."""

    name: str
    architecture: Architecture
    settings: Mapping[str, Any]
    locations: Mapping[str, str]


def resolve_reference(
    reference: ModelReference, path: Trail, reporter: Reporter, site: Site, fingerprints: Fingerprints | None
) -> ResolvedModel | None:
    """Find a model: a folder (absolute here), or a hub id, looked for in the site's model folders, in the
    hub's cache, on the hub.

    `fingerprints` None: a quick look. Nothing is hashed and nobody is asked over the network; a hub model
    that is not here is then no error. Reports E501 (not found), E502, E503, W501.
    """
    if reference.path is not None:
        folder = Path(reference.path)
        if not folder.is_dir():
            reporter.error(
                "E501",
                (*path, "path"),
                f"there is no model folder {shown_path(folder)}",
                "a path is relative to the spec; a hub id has no ./ in front",
            )
            return None
        return _from_folder(folder.name, folder, (*path, "path"), reporter, fingerprints)
    assert reference.hub is not None  # references of other kinds were refused before
    revision = reference.revision or "main"
    return _from_hub(reference.hub, revision, (*path, "hub"), reporter, site, fingerprints)


def _from_folder(
    name: str, folder: Path, path: Trail, reporter: Reporter, fingerprints: Fingerprints | None
) -> ResolvedModel | None:
    architecture = _read(folder, path, reporter)
    if architecture is None:
        return None
    fingerprint = UNRESOLVED
    if fingerprints is not None:
        try:
            fingerprint = fingerprints.model(folder)
        except OSError as error:
            name = shown_path(Path(error.filename))
            reporter.error("E501", path, f"cannot read {name}: {error.strerror}", "is it a link to nowhere?")
            return None
    settings = _settings("folder", architecture, fingerprint=fingerprint)
    return ResolvedModel(name, architecture, settings, {fingerprint: str(folder.resolve())})


def _from_hub(
    repository: str,
    revision: str,
    path: Trail,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
) -> ResolvedModel | None:
    for models in site.models:
        if (models / repository / "config.json").is_file():
            # By content, not by name: whatever lies there is what is used.
            return _from_folder(repository, models / repository, path, reporter, fingerprints)
    commit = cached_commit("models", repository, revision)
    folder = cached_snapshot("models", repository, commit) if commit else None
    if folder is None or not (folder / "config.json").is_file():
        if fingerprints is None:
            return None
        try:
            if is_offline(site.offline):
                raise HubError("it is not in the hub's local cache, and this is offline")
            commit = commit or fetch_commit("models", repository, revision)
            folder = fetch_config(repository, commit)
        except HubError as error:
            reporter.error(
                "E501",
                path,
                f"cannot find the model {repository} at {revision}: {error}",
                "check the name and the revision, or name a folder laid out as on the hub with --models DIR",
            )
            return None
    assert commit is not None
    architecture = _read(folder, path, reporter)
    if architecture is None:
        return None
    settings = _settings("hub", architecture, repository=repository, revision=commit)
    locations = {f"{repository}@{commit}": str(folder)} if weight_files(folder) else {}
    return ResolvedModel(repository, architecture, settings, locations)


def folder_architecture(folder: Path) -> Architecture:
    """The facts of a model folder: of its config.json and, for the head of a T5 that calls itself untied, of
    its weights. Raises `ArchitectureError` E502, E503."""
    architecture = architecture_of(read_config(folder))
    if not architecture.tied and architecture.family == "t5":
        names = stored_names(folder)
        if names is not None and "lm_head.weight" not in names:
            return replace(architecture, tied=True)
    return architecture


def _read(folder: Path, path: Trail, reporter: Reporter) -> Architecture | None:
    try:
        architecture = folder_architecture(folder)
    except ArchitectureError as error:
        reporter.error(error.code, path, error.message, error.hint)
        return None
    if architecture.legacy_layers not in (None, architecture.encoder_layers):
        reporter.warning(
            "W501",
            path,
            f"config.json has encoder_layers {architecture.encoder_layers} and the older num_hidden_layers "
            f"{architecture.legacy_layers}; the former counts",
            "remove num_hidden_layers from config.json: other programs build the wrong model from it",
        )
    return architecture


def stored_names(folder: Path) -> set[str] | None:
    """The names of the tensors in a folder's safetensors, from headers and index alone; None: not known."""
    names: set[str] = set()
    files = [file for file in weight_files(folder) if file.suffix == ".safetensors"]
    try:
        for file in files:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > 100_000_000:
                    return None
                names.update(json.loads(stream.read(length)))
    except (OSError, ValueError):
        return None
    return names if files else None


def _settings(
    kind: str,
    architecture: Architecture,
    *,
    fingerprint: str | None = None,
    repository: str | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "family": architecture.family,
        "config": None,
        "seed": None,
        "fingerprint": fingerprint,
        "repository": repository,
        "revision": revision,
        "parameters": architecture.parameters,
    }
