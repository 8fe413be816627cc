"""The schema of a spec with the terms, metrics and families of installed packages in it.

With none installed it is the file, unchanged. A name whose package cannot be used is known, too, so that it is
told what is wrong with the package, not that the name is unknown (`checks/extensions.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .installed import Extension, Installed

# An enumeration or a pattern with these names is one of all metrics, or of all families of encoder-decoders.
SOME_METRICS = {"rouge2", "bleu"}
SOME_FAMILIES = {"marian", "t5"}


def extend_schema(root: dict[str, Any], installed: Installed) -> dict[str, Any]:
    """Put what is installed into the schema of a spec; `root` is changed and returned."""
    for name, extension in installed.names["terms"].items():
        root["$defs"]["loss"]["properties"][name] = term_schema(extension, root["$defs"]["weight_schedule"])
    metrics = installed.names["metrics"]
    for fragment in list(_fragments(root)):
        choices = fragment.get("enum", ())
        if {*choices} >= SOME_METRICS:
            choices += metrics
        if {*choices} >= SOME_FAMILIES:
            choices += installed.names["families"]
        pattern = fragment.get("pattern", "")
        if all(name in pattern for name in SOME_METRICS):
            fragment["pattern"] = pattern.replace("|bleu|", "|bleu|" + "".join(f"{name}|" for name in metrics))
    for name in metrics:
        published = {"description": f"Published {name}.", "type": "number", "examples": [1.0]}
        root["$defs"]["expectation"]["properties"][name] = published
    return root


def term_schema(extension: Extension, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `loss.NAME`: a number, which is the weight, or a mapping of the settings. A setting without
    a default must be written; with such a one beside the weight there is no short form. `schedule`: the schema of
    a weight that changes."""
    if extension.problem is not None:
        return {"description": f"It cannot be used: {extension.problem.message}."}
    settings = {name: _setting(setting) for name, setting in extension.facts["properties"].items()}
    required = [name for name, setting in settings.items() if "default" not in setting]
    settings["weight"] = _weight(settings["weight"], schedule)
    description = f"{extension.facts['description']} (From {extension.package}.)"
    example = {name: setting.get("default", setting["examples"][0]) for name, setting in settings.items()}
    whole = {
        "description": "The term with its settings.",
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": settings,
        "examples": [example],
    }
    if set(required) - {"weight"}:
        return {**whole, "description": description}
    alone = {"description": "Only the weight.", "type": "number", "minimum": 0, "examples": [1.0]}
    return {"description": description, "x-short": "weight", "anyOf": [alone, whole], "examples": [example]}


def _setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting with an example, which messages show."""
    if "examples" in setting:
        return dict(setting)
    plain = {"number": 1.0, "integer": 1, "string": "text", "boolean": True, "array": []}
    example = setting.get("default", setting.get("minimum", next(iter(setting.get("enum", ())), None)))
    return {**setting, "examples": [plain[setting["type"]] if example is None else example]}


def _weight(setting: Mapping[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The weight: a number within the package's bounds, or one that changes within them."""
    number = {key: value for key, value in setting.items() if key != "default"}
    bounds = {key: value for key, value in number.items() if key not in ("description", "examples")}
    ends = {name: {**schedule["properties"][name], **bounds} for name in ("from", "to")}
    whole = {**schedule, "properties": {**schedule["properties"], **ends}}
    around = {key: setting[key] for key in ("description", "default", "examples") if key in setting}
    return {**around, "anyOf": [number, whole]}


def _fragments(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a schema."""
    if isinstance(value, dict):
        yield value
        for below in value.values():
            yield from _fragments(below)
    elif isinstance(value, list):
        for below in value:
            yield from _fragments(below)
