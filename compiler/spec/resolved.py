"""The spec of one run, alone and complete: what `explain --resolved` prints and `diff` compares.

What is printed is a spec itself, with nothing left to extend, to vary or to fill in, and compiles to the same
keys. Defaults that mean nothing for this run are not in it: in a spec they would be refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Trail
from ..extensions.schema_files import Fragment
from ..tasks.task import TASKS
from .compiled import Run
from .normalise import normalise
from .phases import OF_A_PHASE
from .structure import load_schema, rewrite, with_defaults
from .ways import OF_VALIDATION, TEXT_ONLY
from .yaml_text import yaml_text

OF_SEVERAL_RUNS = ("extends", "variants", "matrix")
MAX_NAME = 100  # characters, as the schema says; a run's full name may be longer


def resolved_yaml(run: Run) -> str:
    """The resolved tree of a run as YAML, without what means nothing for it."""
    experiment = run.experiment
    tree = resolved_tree(run.tree)
    paths: list[Trail] = [
        ("pseudo_labels", name) for name in experiment.pseudo_labels if name not in experiment.targets
    ]
    if len(paths) == len(experiment.pseudo_labels):
        paths = [("pseudo_labels",)]
    paths += [] if any(phase.loss.needs_phi for phase in experiment.phases) else [("phi",)]
    if isinstance(tree["training"], list):
        paths += [(name,) for name in OF_A_PHASE]  # each phase has all of them
    if not TASKS[experiment.task].writes_texts:
        paths += TEXT_ONLY
        paths += [("training", i, *OF_VALIDATION) for i in range(len(experiment.phases))]
        # Only the model could say whether there is a decoder; who wrote of it knew. The loss is measured always.
        doubtful: list[Trail] = [("student", "init", "decoder"), ("phi", "decoder")]
        doubtful += [("evaluation", "metrics")] if "loss" in experiment.evaluation.metrics else []
        paths += [path for path in doubtful if not run.reporter.written(path)]
    for path in paths:
        tree = _without(tree, path)
    return yaml_text(tree)


def _without(tree: dict[str, Any], path: Trail) -> dict[str, Any]:
    """The tree without what stands at a path of keys, of which one may be a place in a list; the tree itself is not
    changed."""
    first, rest = path[0], path[1:]
    if first not in tree:
        return tree
    if not rest:
        return {key: value for key, value in tree.items() if key != first}
    below = tree[first]
    if not isinstance(rest[0], int):
        return {**tree, first: _without(below, rest)}
    if not isinstance(below, list):
        return tree
    return {**tree, first: [_without(one, rest[1:]) if i == rest[0] else one for i, one in enumerate(below)]}


def resolved_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A run's tree, whose defaults of the schema are filled in, with those as well that depend on the task or on
    other keys; in the order of the schema."""
    schema = load_schema("experiment")
    resolved = normalise({key: value for key, value in tree.items() if key not in OF_SEVERAL_RUNS}, schema)
    resolved["name"] = _short(resolved["name"])
    ordered: dict[str, Any] = rewrite(resolved, schema, schema.root, _in_order)
    return ordered


def _in_order(mapping: dict[str, Any], fragment: Fragment) -> dict[str, Any]:
    """The same with its keys as the schema has them; free names stay as they are."""
    keys = [key for key in fragment.get("properties", {}) if key in mapping]
    return {key: mapping[key] for key in (*keys, *(key for key in mapping if key not in keys))}


def completed_tree(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved tree that a plan holds, as the present version would write it: keys that came later have
    their defaults. As it is, when it does not fit the present language."""
    from ..diagnostics.diagnostic import Places, Reporter
    from .validate import validate

    schema = load_schema("experiment")
    if not isinstance(name := spec.get("name"), str):
        return dict(spec)
    spec = {**spec, "name": _short(name)}
    reporter = Reporter(Places())
    if validate(spec, schema, reporter) or reporter.failed:
        return spec
    tree = with_defaults(schema, schema.root, spec)
    try:
        return resolved_tree(tree)
    except (AttributeError, KeyError, TypeError, ValueError):  # a short form fits the schema, and is in no plan of ours
        return spec


def without_locations(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved tree without the places of its models and files. They say nothing about what lies there: that
    do the fingerprints of a plan's inputs. Of a spec that is named for a model, the name of its file stays."""
    schema = load_schema("experiment")

    def is_place(fragment: Fragment) -> bool:
        fragment = schema.resolve(fragment)
        return "x-location" in fragment or any(map(is_place, fragment.get("anyOf", ())))

    def keep(mapping: dict[str, Any], chosen: Fragment) -> dict[str, Any]:
        places = [key for key in mapping if is_place(schema.child(chosen, key) or {})]
        named = {"spec": Path(mapping["spec"]).name} if "spec" in places and isinstance(mapping["spec"], str) else {}
        return {key: named.get(key, item) for key, item in mapping.items() if key not in places or key in named}

    found: dict[str, Any] = rewrite(tree, schema, schema.root, keep)
    return found


def _short(name: str) -> str:
    """A name that a spec may have. One that was cut ends in a hash of all of it, so that it stays its own."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
