"""An existing model, as a spec names it -> its architecture, its settings in the plan, its place here; and the
way back, from a plan to the architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, replace
from os.path import isdir, isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.diagnostic import Reporter, Trail, did_you_mean, shown_path
from ..diagnostics.record import record
from ..diagnostics.regular_file import real_path
from ..extensions.families import FAMILIES
from ..spec.experiment import Experiment, ModelReference
from ..spec.paths import location_hint, shown_location
from ..tasks.task import TASKS, WRITING
from .architecture import Architecture
from .catalogue import CATALOGUE, catalogued
from .fingerprint import UNRESOLVED, Fingerprints, weight_files
from .hub import HubError, cached_commit, cached_snapshot, fetch_commit, fetch_config, is_offline
from .languages import NO_LANGUAGES, Languages, has_line_break, languages_of
from .model_config import ArchitectureError, architecture_of, read_config
from .parts import adapter_words, check_parts, is_adapter, stored_types
from .site import Site


@record
class ResolvedModel:
    """`name` is what the spec calls it; `settings` are a teacher stage's; `locations` its `execution`'s;
    `config` is its config.json, as far as it is known. `made`: the run of another spec that makes it; then
    it has no settings of its own. `says_length`: does its checkpoint say how long a text may become? Where the files
    of the checkpoint are not known, it is taken to. `languages`: what its tokenizer does with them;
    `line_break`: does it write `<n>` for one?"""

    name: str
    architecture: Architecture
    settings: Mapping[str, Any]
    locations: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    made: MadeModel | None = None
    says_length: bool = True
    languages: Languages = NO_LANGUAGES
    line_break: bool = False


@record
class MadeModel:
    """A model that the run of another spec makes. `owner`: what the run is called here."""

    owner: str
    model: Literal["student", "teacher"]


@record
class Use:
    """What a model is wanted for: the task, which decides its head, and the number of classes (None: as many
    as its config names)."""

    task: str
    num_labels: int | None = None


TO_WRITE = Use(WRITING[0])


def use_of(experiment: Experiment) -> Use:
    """What the models of a run are wanted for."""
    labels = experiment.data.labels or ()
    return Use(experiment.task, TASKS[experiment.task].num_outputs or len(labels) or None)


def resolve_reference(
    reference: ModelReference,
    path: Trail,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
    use: Use = TO_WRITE,
    made: Mapping[Trail, ResolvedModel] | None = None,
) -> ResolvedModel | None:
    """Find a model: a folder (absolute here), one that a run of another spec makes (`made`: those, by where they
    are named), or a hub id, looked for in the site's model folders, in the hub's cache, on the hub. Of some
    well-known models the shape is known without any of them (`catalogue`): offline, or when the hub does not
    answer, such a model's revision is "unresolved".

    `fingerprints` None: a quick look. Nothing is hashed and nobody is asked over the network; a hub model
    that is not here is then no error. Reports E501 (not found), E502, E503, E531, W501, W575 (no weights), E535 to E539
    (parts that do not go together).
    """
    if reference.path is not None:
        folder = Path(reference.path)
        if not isdir(folder):
            reporter.error(
                "E501",
                (*path, "path"),
                f"there is no model folder {shown_location(folder, (*path, 'path'), reporter)}",
                location_hint(reference.path) or "a path is relative to the spec; a hub id has no ./ in front",
            )
            return None
        return _from_folder(folder.name, folder, (*path, "path"), reporter, fingerprints, use)
    if reference.spec is not None:
        return (made or {}).get(path)  # what is wrong with it was reported
    if reference.mlflow is not None:
        return None  # the rules refuse it
    assert reference.hub is not None
    revision = reference.revision or "main"
    return _from_hub(reference.hub, revision, (*path, "hub"), reporter, site, fingerprints, use)


def _from_folder(
    name: str, folder: Path, path: Trail, reporter: Reporter, fingerprints: Fingerprints | None, use: Use
) -> ResolvedModel | None:
    config = _read(folder, path, reporter)
    architecture = None if config is None else _shape(config, folder, path, reporter, use)
    if config is None or architecture is None:
        return None
    fingerprint = UNRESOLVED
    if fingerprints is not None:
        try:
            fingerprint = fingerprints.model(folder)
        except OSError as error:
            name = shown_path(Path(error.filename))
            reporter.error("E501", path, f"cannot read {name}: {error.strerror}", "is it a broken link?")
            return None
    _check_weights(folder, path, reporter)
    check_parts(folder, config, architecture, path, reporter)
    settings = model_settings("folder", architecture, fingerprint=fingerprint)
    return _resolved(name, architecture, settings, {fingerprint: str(real_path(folder))}, config, folder)


def _from_hub(
    repository: str,
    revision: str,
    path: Trail,
    reporter: Reporter,
    site: Site,
    fingerprints: Fingerprints | None,
    use: Use,
) -> ResolvedModel | None:
    for models in site.models:
        if isfile(models / repository / "config.json"):
            # By content, not by name: whatever lies there is what is used.
            return _from_folder(repository, models / repository, path, reporter, fingerprints, use)
    commit = cached_commit("models", repository, revision)
    folder = cached_snapshot("models", repository, commit) if commit else None
    if folder is None or not isfile(folder / "config.json"):
        try:
            if fingerprints is None or is_offline(site.offline):
                raise HubError("it is not in the hub's local cache, and this is offline", answered=False)
            commit = commit or fetch_commit("models", repository, revision)
            folder = fetch_config(repository, commit)
        except HubError as error:
            known = None if error.answered else catalogued(repository)
            if known is not None:
                return _from_catalogue(repository, commit, known, path, reporter, use)
            if fingerprints is not None:
                reporter.error(
                    "E501",
                    path,
                    f"cannot find the model {repository} at {revision}: {error}",
                    "check the name and the revision, or name a folder laid out as on the hub with --models DIR",
                )
            else:
                near = did_you_mean(repository, CATALOGUE, cutoff=0.85)
                reporter.warning(
                    "W503",
                    path,
                    f"the model {repository} is not on this machine: what depends on its shape was not checked",
                    f"did you mean {near}?" if near else "`distilc explain` asks the hub; --models DIR names a folder",
                )
            return None
    assert commit is not None
    config = _read(folder, path, reporter)
    architecture = None if config is None else _shape(config, folder, path, reporter, use)
    if config is None or architecture is None:
        return None
    if is_offline(site.offline):
        _check_weights(folder, path, reporter)  # else `run` fetches them
    check_parts(folder, config, architecture, path, reporter)
    settings = model_settings("hub", architecture, repository=repository, revision=commit)
    locations = {f"{repository}@{commit}": str(folder)} if weight_files(folder) else {}
    return _resolved(repository, architecture, settings, locations, config, folder)


def _resolved(
    name: str,
    architecture: Architecture,
    settings: Mapping[str, Any],
    locations: Mapping[str, str],
    config: Mapping[str, Any],
    folder: Path | None,
) -> ResolvedModel:
    """A model with what the files in its folder say (None: they are not here)."""
    family = FAMILIES[architecture.family]
    return ResolvedModel(
        name, architecture, settings, locations, config, says_length=_says_length(folder, config),
        languages=languages_of(family, folder, config), line_break=has_line_break(family, folder),
    )  # fmt: skip


def _says_length(folder: Path | None, config: Mapping[str, Any]) -> bool:
    """Does a checkpoint set the longest text that it writes? What counts is generation_config.json; where there is
    none, config.json, and in it what it says of the only task that it knows."""
    if folder is None:
        return True
    try:
        said = json.loads((folder / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        tasks = config.get("task_specific_params")
        only = next(iter(tasks.values())) if isinstance(tasks, Mapping) and len(tasks) == 1 else None
        said = {**(only if isinstance(only, Mapping) else {}), **config}
    lengths = ("max_length", "max_new_tokens")
    return not isinstance(said, Mapping) or any(said.get(name) is not None for name in lengths)


def _check_weights(folder: Path, path: Trail, reporter: Reporter) -> None:
    """A plan needs shapes alone, and can be made before the weights are there. `run` cannot do without them."""
    if not any(file.suffix != ".json" for file in weight_files(folder)):
        reporter.warning(
            "W575",
            path,
            f"there are no weights in the model folder {shown_path(folder)}: it can be compiled, but not run",
            "put model.safetensors there (or its shards, or pytorch_model.bin), or name another folder",
        )


def _from_catalogue(
    repository: str, commit: str | None, config: Mapping[str, Any], path: Trail, reporter: Reporter, use: Use
) -> ResolvedModel | None:
    """A well-known model that is not here. A commit that the spec names is a revision all the same."""
    architecture = _shape(config, None, path, reporter, use)
    if architecture is None:
        return None
    settings = model_settings("hub", architecture, repository=repository, revision=commit or UNRESOLVED)
    return _resolved(repository, architecture, settings, {}, config, None)


def folder_architecture(folder: Path, use: Use = TO_WRITE) -> Architecture:
    """The facts of a model folder: of its config.json and, for the head of a T5 that calls itself untied, of
    its weights. Raises `ArchitectureError` E502, E503, E531."""
    return _untied(architecture_of(read_config(folder), use.task, use.num_labels), folder)


def _untied(architecture: Architecture, folder: Path) -> Architecture:
    if not architecture.tied and FAMILIES[architecture.family].one_embedding:
        types = stored_types(folder)
        if types is not None and "lm_head.weight" not in types:
            return replace(architecture, tied=True)
    return architecture


def _read(folder: Path, path: Trail, reporter: Reporter) -> dict[str, Any] | None:
    try:
        return read_config(folder, shown_location(folder, path, reporter))
    except ArchitectureError as error:
        if is_adapter(folder) and not isfile(folder / "config.json"):
            reporter.error("E536", path, *adapter_words(folder))
        else:
            reporter.error(error.code, path, error.message, error.hint)
        return None


def _shape(
    config: Mapping[str, Any], folder: Path | None, path: Trail, reporter: Reporter, use: Use
) -> Architecture | None:
    try:
        architecture = architecture_of(config, use.task, use.num_labels)
    except ArchitectureError as error:
        # A family that cannot do the task is as much the task's mistake.
        because = [("task",)] if error.code == "E531" else []
        reporter.error(error.code, path, error.message, error.hint, because=because)
        return None
    if folder is not None:
        architecture = _untied(architecture, folder)
    if architecture.legacy_layers not in (None, architecture.encoder_layers):
        field_name = FAMILIES[architecture.family].fields["encoder_layers"][0]
        reporter.warning(
            "W501",
            path,
            f"config.json has {field_name} {architecture.encoder_layers} and the older num_hidden_layers "
            f"{architecture.legacy_layers}; the former is used",
            "remove num_hidden_layers from config.json: other programs build the wrong model from it",
        )
    return architecture


def model_settings(
    kind: str,
    architecture: Architecture,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    fingerprint: str | None = None,
    repository: str | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    """The `settings` of a `teacher` stage."""
    return {
        "kind": kind,
        "family": architecture.family,
        "config": config,
        "seed": seed,
        "fingerprint": fingerprint,
        "repository": repository,
        "revision": revision,
        "num_labels": architecture.num_labels or None,
        "parameters": architecture.parameters,
    }
