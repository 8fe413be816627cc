"""A normalised tree as the typed, frozen run.

A mapping becomes a record by the names and types of its fields. Where a record has another shape than its section of
the spec, a function of `SHAPES` brings the section into that shape first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..extensions.terms import weights_of
from ..tasks.task import TASKS, column_keys
from .experiment import (
    EXPECTED,
    Baseline,
    Candidates,
    Expectation,
    Experiment,
    Labeller,
    Loss,
    Method,
    ModelReference,
    Teacher,
    Training,
    is_schedule,
)
from .normalise import Known
from .phases import phase_trees

Kind = TypeVar("Kind")
Tree = Mapping[str, Any]

# Words of a spec for what is decided elsewhere: by the length of the training, by the checkpoint, by the teacher.
UNDECIDED = ("auto", "inherit", "teacher", "all")


def bind_experiment(tree: Tree, variant: str | None = None, known: Known | None = None) -> Experiment:
    """A normalised tree as an `Experiment`. `known` keeps the records: the runs of a sweep share most of theirs. Raises
    TypeError when schema and records disagree, which is a mistake in distilc, not in a spec."""
    return _record(Experiment, {**tree, "variant": variant}, {} if known is None else known)


def bind(kind: type[Kind], tree: Tree) -> Kind:
    """A mapping as a record: the same names, and values of the declared types. What may be None may be absent."""
    return _record(kind, tree, {})


def _record(kind: type[Kind], tree: Tree, known: Known) -> Kind:
    if (id(tree), kind) not in known:
        known[id(tree), kind] = tree, _made(kind, tree, known)
    found: Kind = known[id(tree), kind][1]
    return found


def _made(kind: type[Kind], tree: Tree, known: Known) -> Kind:
    if kind in SHAPES:
        tree = SHAPES[kind](tree)
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        key = name.rstrip("_")
        if key in tree:
            values[name] = _bound(hint, tree[key], known)
        elif _may_be_none(hint):
            values[name] = None
        elif hasattr(hint, "__dataclass_fields__") and all(map(_may_be_none, _hints(hint).values())):
            values[name] = _record(hint, {}, known)
    if len(values) < len(hints) or not tree.keys() <= {name.rstrip("_") for name in hints}:
        raise TypeError(f"{kind.__name__} has {sorted(hints)}, the tree has {sorted(tree)}")
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _may_be_none(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)


def _bound(kind: Any, value: Any, known: Known) -> Any:
    """`value` as `kind`; a whole number may be written 5.0, and any number may be a `float`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        for choice in get_args(kind):
            if _takes(choice, value):
                return _bound(choice, value, known)
        if isinstance(value, str) and value in UNDECIDED and NoneType in get_args(kind):
            return None
    elif _takes(kind, value):
        if origin is tuple:
            return tuple(_bound(get_args(kind)[0], item, known) for item in value)
        if origin is Mapping:
            of_values = get_args(kind)[1]
            return {
                str(name): item if of_values is Any else _bound(of_values, item, known) for name, item in value.items()
            }
        if kind in (int, float):
            return kind(value)  # the nearest one, where it has more digits
        return _record(kind, value, known) if isinstance(value, Mapping) else value
    raise TypeError(f"{value!r} is no {kind}")


def _takes(kind: Any, value: Any) -> bool:
    """Is it a value of this type, as a tree has it?"""
    origin = get_origin(kind)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if origin is tuple:
        return isinstance(value, list | tuple)
    if kind in (int, float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (kind is float or int(value) == value)
    if kind in (str, bool, NoneType):
        return isinstance(value, kind)
    return isinstance(value, Mapping)


# --- sections that have another shape than their records -----------------------------------------


def _experiment(tree: Tree) -> Tree:
    task, columns, first = TASKS[tree["task"]], tree["data"]["columns"], next(iter(tree["data"]["test"]))
    *earlier, training = phase_trees(tree)
    source, target = column_keys(tree["task"], paired="hypothesis" in columns)
    targets = [{item: None} if isinstance(item, str) else item for item in tree["targets"]]
    expected = tree.get("expect", {})
    return {
        **{name: tree[name] for name in ("name", "variant", "task", "teacher", "student", "evaluation", "tracking")},
        "seed": tree["seeds"][0],
        "phi_encoder": tree["phi"]["encoder"],
        "phi_decoder": tree["phi"]["decoder"],
        "training": training,
        "earlier_phases": earlier,
        **{name: tree.get(name, {}) for name in ("pseudo_labels", "stages")},
        "targets": [name for item in targets for name in item],
        "target_shares": {name: share for item in targets for name, share in item.items() if share is not None},
        "data": {
            **tree["data"],
            "columns": {
                "source": columns[source],
                "hypothesis": columns["hypothesis"] if task.pair and "hypothesis" in columns else None,
                "target": columns.get(target, target),
                "id": columns.get("id"),
            },
        },
        "baselines": {name: {**item, "first": first} for name, item in tree.get("baselines", {}).items()},
        "expect": {who: expected[who] for who in EXPECTED if who in expected},
    }


def _teacher(tree: Tree) -> Tree:
    reference = {name: value for name, value in tree.items() if name in _hints(ModelReference)}
    rest = {name: value for name, value in tree.items() if name not in reference}
    return {**rest, "reference": reference or None}


def _training(tree: Tree) -> Tree:
    """Of the spec itself, or of `teacher.train`."""
    return {name: tree["training" if name == "optimization" else name] for name in _hints(Training)}


def _loss(tree: Tree) -> Tree:
    """The terms that are on, with a number for each schedule, and the schedules. One that goes nowhere is its
    number."""
    schedules: dict[str, Any] = {}

    def number(value: Any, path: str) -> Any:
        if is_schedule(value) and value["from"] != value["to"]:
            schedules[path] = value
        return _largest(value)

    on: dict[str, Any] = {}
    for name, term in tree.items():
        if not _is_on(name, term):
            continue
        if isinstance(term, Mapping) and not is_schedule(term):
            on[name] = {setting: number(value, f"{name}.{setting}") for setting, value in term.items()}
        else:
            on[name] = number(term, name)
    typed = {name: on.pop(name) for name in _hints(Loss) if name in on}
    own = {name: term if isinstance(term, Mapping) else {"weight": term} for name, term in on.items()}
    return {**typed, "own": own, "schedules": schedules}


def _is_on(name: str, term: Any) -> bool:
    """Has a term, spelled out, or a weight alone, a weight that is not 0? One whose package cannot be used is on,
    too: it is told elsewhere."""
    settings = term if isinstance(term, Mapping) and not is_schedule(term) else {"weight": term}
    return any(_largest(settings.get(weight, 1.0)) for weight in weights_of(name))


def _largest(value: Any) -> Any:
    return float(max(value["from"], value["to"])) if is_schedule(value) else value


def _method(tree: Tree) -> Tree:
    """The one that is named, with a number for each schedule. One that goes nowhere is its number."""
    ((name, settings),) = tree.items()
    schedules = {key: value for key, value in settings.items() if is_schedule(value) and value["from"] != value["to"]}
    plain = {key: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
             for key, value in ((key, _largest(value)) for key, value in settings.items())}  # fmt: skip
    return {"name": name, "settings": plain, "schedules": schedules}


def _candidates(tree: Tree) -> Tree:
    (name, number), *_ = tree.items()
    return {"kind": "top-k" if name == "top_k" else "sampled", "number": number}


def _labeller(tree: Tree) -> Tree:
    columns, keep = tree.get("columns", {}), tree.get("keep", {})
    lengths = {f"{end}_length_ratio": value for end, value in keep.get("length_ratio", {}).items()}
    rest = {name: value for name, value in (*tree.items(), *keep.items()) if name not in OF_A_LABELLER}
    return {**rest, **lengths, "file_id": columns.get("id", ""), "file_text": columns.get("text", "")}


OF_A_LABELLER = ("columns", "keep", "length_ratio")


def _baseline(tree: Tree) -> Tree:
    files = tree["predictions"]
    rest = {name: value for name, value in tree.items() if name not in ("columns", "first")}
    return {
        **rest,
        **tree.get("columns", {}),
        "predictions": {tree["first"]: files} if isinstance(files, str) else files,
        "by_test_set": not isinstance(files, str),
    }


def _expectation(tree: Tree) -> Tree:
    rest = {name: tree[name] for name in ("within", "source") if name in tree}
    return {**rest, "scores": {name: value for name, value in tree.items() if name not in rest}}


SHAPES: Mapping[type, Callable[[Tree], Tree]] = {
    Experiment: _experiment,
    Teacher: _teacher,
    Training: _training,
    Loss: _loss,
    Method: _method,
    Candidates: _candidates,
    Labeller: _labeller,
    Baseline: _baseline,
    Expectation: _expectation,
}
