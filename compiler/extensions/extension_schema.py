"""The schema of a spec with what is registered in it: our terms, metrics, stage kinds and ways to train, and the terms,
metrics, families, stage kinds and ways to train of installed packages.

Ours stand in the file already, which editors read, and where the fragments say the same it stays as it is;
`make schema` writes it anew. A name whose package cannot be used is known, too, so that it is told what is wrong
with the package, not that the name is unknown (`checks/extensions.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .built_in import built_in, measured_metrics
from .builtin_families import OURS
from .installed import Installed
from .stage_kinds import stage_kinds

# An enumeration with these names is one of the families that an `architecture` can name.
FROM_SCRATCH = {name for name, family in OURS.items() if family.scratch is not None}


def extend_schema(root: dict[str, Any], installed: Installed) -> dict[str, Any]:
    """Put what is registered into the schema of a spec; `root` is changed and returned. `x-metrics` marks where names
    of metrics belong: `all` of them, or those that are `measured` by an evaluation."""
    schedule = root["$defs"]["weight_schedule"]
    terms = root["$defs"]["loss"]["properties"]
    terms |= {name: term_schema(facts, facts["description"], schedule) for name, facts in built_in("terms").items()}
    for name, extension in installed.names["terms"].items():
        if extension.problem is not None:
            terms[name] = {"description": f"It cannot be used: {extension.problem.message}."}
        else:
            description = f"{extension.facts['description']} (From {extension.package}.)"
            terms[name] = term_schema(extension.facts, description, schedule)
    stages = root["properties"]["stages"]["properties"]
    stages |= {name: stage_schema(facts) for name, facts in stage_kinds(installed).items()}
    for name, extension in installed.names["stages"].items():
        if extension.problem is not None:
            stages[name] = {"description": f"It cannot be used: {extension.problem.message}."}
    _put_methods(root, installed)
    measured = [*measured_metrics(), *installed.names["metrics"]]
    for fragment in list(_fragments(root)):
        if "x-metrics" in fragment:
            fragment["enum"] = ["loss", *measured] if fragment["x-metrics"] == "all" else measured
        elif {*(choices := fragment.get("enum", ()))} >= FROM_SCRATCH:
            choices += installed.names["families"]
    expectation = root["$defs"]["expectation"]
    number = expectation["additionalProperties"]
    for name in measured:
        published = {**number, "description": f"Published {name}."}
        expectation["properties"].setdefault(name, published)
    others = [name for name in expectation["properties"] if name not in measured]
    pattern = f"^({'|'.join(others)}|([A-Za-z0-9_-]+\\.)?({'|'.join(measured)}))$"
    expectation["propertyNames"]["pattern"] = pattern
    return root


def _put_methods(root: dict[str, Any], installed: Installed) -> None:
    """The ways to train, of which a training has one or none."""
    whole = next(one for one in root["$defs"]["training"]["properties"]["method"]["anyOf"] if one["type"] == "object")
    schedule = root["$defs"]["weight_schedule"]
    found = {name: method_schema(facts, schedule) for name, facts in built_in("methods").items()}
    for name, extension in installed.names["methods"].items():
        if extension.problem is not None:
            found[name] = {"description": f"It cannot be used: {extension.problem.message}."}
        else:
            found[name] = method_schema(extension.facts, schedule)
    whole["properties"] = found
    whole["x-either"] = list(found)
    whole["oneOf"] = [{"required": [name]} for name in found]


def method_schema(facts: Mapping[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `training.method.NAME`: a mapping of the settings, of which some may change while the model is
    trained. `schedule`: the schema of a weight that changes."""
    plain = {
        name: {key: value for key, value in setting.items() if key != "scheduled"}
        for name, setting in facts["properties"].items()
    }
    found = stage_schema({**facts, "properties": plain})
    for name, setting in facts["properties"].items():
        if setting.get("scheduled"):
            found["properties"][name] = _weight(found["properties"][name], _of_number(schedule, setting))
    return found


def _of_number(schedule: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a number that changes as a weight does, with the examples of the setting that it is."""
    example = setting["examples"][0]
    ends = {name: {**schedule["properties"][name], "examples": [example]} for name in ("from", "to")}
    return {
        **schedule,
        "description": schedule["description"].replace("A weight", "A number"),
        "properties": {**schedule["properties"], **ends},
        "examples": [{"from": example, "to": setting.get("maximum", example), "end": {"ratio": 0.5}}],
    }


def term_schema(facts: Mapping[str, Any], description: str, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `loss.NAME`: a number, which is the weight, or a mapping of the settings. A setting without
    a default must be written; with such a one beside the weight, or several weights, there is no short form.
    `schedule`: the schema of a weight that changes."""
    settings = {name: _setting(setting) for name, setting in facts["properties"].items()}
    required = [name for name, setting in settings.items() if _must_be_written(name, setting, facts)]
    if "weight" in settings:
        settings["weight"] = _weight(settings["weight"], schedule)
    if facts.get("alone"):
        return {**settings["weight"], "description": description}
    examples = facts.get("examples") or [
        {name: setting.get("default", setting["examples"][0]) for name, setting in settings.items()}
    ]
    whole = {
        "description": "The term with its settings.",
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": settings,
        "examples": examples,
    }
    if "weight" not in settings or set(required) - {"weight"}:
        return {**whole, "description": description}
    alone = {
        "description": "Only the weight.",
        "type": "number",
        "minimum": 0,
        "maximum": 1e30,
        "examples": settings["weight"]["examples"],
    }
    return {"description": description, "x-short": "weight", "anyOf": [alone, whole], "examples": examples}


def stage_schema(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of `stages.NAME`: a mapping of the settings. One without a default must be written."""
    settings = {name: _setting(setting) for name, setting in facts["properties"].items()}
    required = [name for name, setting in settings.items() if _must_be_written(name, setting, facts)]
    return {
        "description": facts["description"],
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": settings,
        "examples": [{name: setting.get("default", setting["examples"][0]) for name, setting in settings.items()}],
    }


def _must_be_written(name: str, setting: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return "default" not in setting and name not in facts.get("optional", ())


def _setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    """A setting with an example, which messages show."""
    if "examples" in setting:
        return dict(setting)
    plain = {"number": 1.0, "integer": 1, "string": "text", "boolean": True, "array": []}
    example = setting.get("default", setting.get("minimum", next(iter(setting.get("enum", ())), None)))
    return {**setting, "examples": [plain[setting["type"]] if example is None else example]}


def _weight(setting: Mapping[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The weight: a number within the term's bounds, or one that changes within them."""
    if "anyOf" in setting:
        return dict(setting)
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
