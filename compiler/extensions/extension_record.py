"""What of installed packages the stages of a plan depend on: name, version and content, in their keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from .installed import KINDS, Extension, Kind, distributions, installed, module_file

OF_DATA_ALONE = ("tokenizer", "data", "targets")  # stages without models and metrics


def with_extensions(
    kind: str, settings: Mapping[str, Any], needed: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The settings of a stage with its `extensions`: `kind.name` -> distribution, version and content hash of each
    that its result depends on. `needed`: the settings of the stages that it needs; who loads a model depends on
    the package of its family. Stages of data alone depend on none."""
    if kind in OF_DATA_ALONE:
        return settings
    used = {
        name: record
        for other in needed
        for name, record in other.get("extensions", {}).items()
        if name.startswith("families.")
    }
    metrics = list(settings.get("metrics", ()))
    if kind == "train":
        metrics += settings["validation"]["metrics"]
    names: dict[Kind, Any] = {
        "terms": settings["objective"]["own"] if kind == "train" else (),
        "metrics": metrics,
        "families": (settings["family"],) if "family" in settings else (),
        "stages": (kind,),
        "methods": (settings["method"]["name"],) if "method" in settings else (),
    }
    for group in KINDS:
        for name in names[group]:
            extension = installed().names[group].get(name)
            if extension is not None and extension.problem is None:
                used[f"{group}.{name}"] = record_of(extension)
    return {**settings, "extensions": dict(sorted(used.items()))}


def used_extensions(stages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that stages with these settings use of installed packages: `kind.name` -> distribution, version,
    content hash."""
    found: dict[str, Any] = {}
    for settings in stages:
        found |= settings.get("extensions", {})
    return dict(sorted(found.items()))


def record_of(extension: Extension) -> dict[str, str]:
    """What names an extension in a plan."""
    return {
        "distribution": extension.distribution,
        "version": extension.version,
        "sha256": _content(extension.distribution, extension.module),
    }


@cache
def _content(distribution: str, module: str) -> str:
    from .package_content import content_hash

    origin = module_file(module)
    assert origin is not None  # of an extension that can be used
    return content_hash(distributions()[distribution], module, origin)
