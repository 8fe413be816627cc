"""A tree held to its JSON Schema. What does not fit becomes diagnostics in YAML's words (E2xx).

In: a composed tree with its places. Out: nothing, or diagnostics and a mended copy of the tree, in which
stand-ins take the place of what was refused, so that later rules can still look at the rest.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ..diagnostics.diagnostic import Places, Position, Reporter, Trail, did_you_mean, dotted, listed, quoted
from ..extensions.schema_files import validator
from .merging import spell_out
from .parse import Node, flatten
from .paths import location_hint
from .structure import Fragment, Schema, kind_of

WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def validate(
    tree: Any, schema: Schema, reporter: Reporter, *, complete: bool = True, fragment: Fragment | None = None
) -> set[Trail]:
    """Report everything in which the tree does not fit; the paths that were refused or are missing.
    `complete` False: a part of the tree could not be read, so what is missing is not reported. `fragment`:
    what the tree is held to, when it is not the whole schema."""
    refused: set[Trail] = set()
    told: set[tuple[Trail, str]] = set()
    errors = list(_specific(validator(fragment or schema.root).iter_errors(tree), schema))
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    alone = {
        (*error.absolute_path, key)
        for error in errors if error.validator == "dependentRequired"
        for key, needed in error.validator_value.items() if key in error.instance and not {*needed} <= {*error.instance}
    }  # fmt: skip
    undecided = {tuple(error.absolute_path): kinds for error in errors if len(kinds := _kinds_there(error)) > 1}
    for error in errors:
        path = tuple(error.absolute_path)
        if _inside_a_kind(error, path, undecided):
            continue  # which of the kinds is to stay comes first
        if (error.validator in BOUNDS and path in mistyped) or path in alone:
            continue  # one mistake, one message
        of_name = "propertyNames" in list(error.relative_schema_path)[-2:]
        if error.validator == "required" and not complete:
            refused.update((*path, key) for key in error.validator_value if key not in error.instance)
            continue
        tell = tell_name if of_name else TELLERS[error.validator]
        mark = (path, f"{error.validator} {error.instance if of_name else ''}")
        if mark in told:
            continue
        told.add(mark)
        refused.update(tell(error, path, schema, reporter))
    return refused


def _kinds_there(error: Any) -> list[str]:
    """The keys of an either-or mapping that say what it is, of those that are there."""
    if error.validator != "oneOf" or not isinstance(error.instance, Mapping):
        return []
    return [key for key in error.schema.get("x-either", ()) if key in error.instance]


def _inside_a_kind(error: Any, path: Trail, undecided: Mapping[Trail, list[str]]) -> bool:
    """Is it about what belongs to one of several kinds, of which only one can stay?"""
    if error.validator == "dependentRequired" and path in undecided:
        return True
    return any(path[:end] in undecided and path[end] in undecided[path[:end]] for end in range(len(path)))


def _specific(errors: Iterable[Any], schema: Schema) -> Iterator[Any]:
    """The errors, those of alternatives replaced by the errors of the alternative that was meant."""
    for error in errors:
        if error.validator != "anyOf":
            yield error
            continue
        kind = kind_of(error.instance)
        meant = schema.choose(error.schema, kind, error.instance if kind == "object" else ())
        index = next((i for i, branch in enumerate(error.validator_value) if _holds(schema, branch, meant)), None)
        if meant is None or index is None:
            yield error
        else:
            yield from _specific((e for e in error.context if e.relative_schema_path[0] == index), schema)


def _holds(schema: Schema, branch: Fragment, meant: Fragment | None) -> bool:
    resolved = schema.resolve(branch)
    return resolved == meant or any(_holds(schema, below, meant) for below in resolved.get("anyOf", ()))


# --- one function a keyword of JSON Schema ---------------------------------------------------------
# Each reports, and returns the paths that are refused or missing.


def tell_additional(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    from .other_names import name_of_a_model, name_of_data, of_sampling, what_to_type

    known = list(error.schema.get("properties", ()))
    refused: list[Trail] = []
    for key in error.instance:
        if key in known:
            continue
        near = did_you_mean(key, known)
        elsewhere = [place for place in schema.key_paths() if place[-1] == key and place[:-1] != path]
        inside = f" in `{reporter.spelled(path)}`" if path else ""
        nearer = [place for place in elsewhere if path not in WHOLE_RUNS and place[: len(path)] == path]
        if near and near not in error.instance:
            refused.append((*path, near))
        if (hint := name_of_a_model(key, error.instance, error.schema)) or (
            hint := of_sampling(key, error.instance, path, known, schema)
        ) or (
            not nearer and (hint := what_to_type(key, error.instance[key], path, known, schema))
        ):
            pass
        elif near:
            hint = f"did you mean `{near}`?"
        elif hint := name_of_data(key, error.instance[key], error.schema):
            pass
        elif elsewhere:
            holder = (nearer or elsewhere)[0][:-1]
            hint = f"`{key}` belongs under `{dotted(holder)}`" if holder else f"`{key}` belongs at the top level"
        else:
            hint = f"known here: {listed(known, 'and')}"
        reporter.error("E201", (*path, key), f"unknown key {quoted(key)}{inside}", hint, at="key")
        refused.append((*path, key))
    return refused


WHOLE_RUNS: tuple[Trail, ...] = ((), ("teacher", "train"))  # what lies in them is near to nothing else in them


def tell_required(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    missing = [key for key in error.validator_value if key not in error.instance]
    fragment = error.schema if path else schema.root
    for key in missing:
        # A key that was misspelt is told as such.
        known = fragment.get("properties", {})
        if any(did_you_mean(other, known) == key for other in error.instance if other not in known):
            continue
        below = schema.child(fragment, key)
        example = f"for example `{key}: {flow(schema.example(below))}`" if below is not None else ""
        inside = f" in `{reporter.spelled(path)}`" if path else ""
        reporter.error("E202", path, f"the key `{key}` is missing{inside}", example, at="key")
    return [(*path, key) for key in missing]


def tell_type(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    kinds = [kind for kind in dict.fromkeys(schema.kinds(error.schema)) if kind != "null"]
    if "number" in kinds:
        kinds.remove("integer")
    wanted = listed(WORDS[kind] for kind in kinds)
    value = error.instance
    found = {"object": "a mapping", "array": "a list", "null": "empty"}.get(kind_of(value))
    written = reporter.places.texts.get(path)
    found = found or (f"the text {quoted(value)}" if isinstance(value, str) else str(written or quoted(value)))
    text = str(written or value)
    if "string" in kinds and kind_of(value) in ("integer", "number", "boolean") and schema.takes(error.schema, text):
        hint = f'quote it: "{text}"'
    elif isinstance(value, str) and "boolean" in kinds and value.lower() in ("yes", "no", "on", "off"):
        hint = f"write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    elif value is False or (isinstance(value, str) and value.lower() in ("off", "no", "none", "never", "disabled")):
        hint = _what_null_means(error.schema, path) if "null" in error.schema.get("type", ()) else ""
    elif isinstance(value, str) and ({"integer", "number"} & set(kinds)) and _is_number(value):
        hint = "write it without quotes, digits only"
    elif (whole := _with_brackets(value, error.schema, schema)) is not None:
        hint = f"write `{_entry(path, whole, reporter)}`"
    elif error.validator == "anyOf" or kinds in (["object"], ["array"]):
        hint = f"for example `{_entry(path, schema.example(error.schema), reporter)}`"
    else:
        hint = ""
    reporter.error("E203", path, f"`{reporter.spelled(path)}` must be {wanted}, it is {found}", hint)
    return [path]


def _with_brackets(value: Any, fragment: Fragment, schema: Schema) -> Any:
    """The list of this one value, or the mapping with one key that has it, if such a thing fits; else None."""
    kinds = schema.kinds(fragment)
    if value is None or kind_of(value) in ("object", "array"):
        return None
    if "array" in kinds and schema.takes(fragment, [value]):
        return [value]
    mapping = schema.choose(fragment, "object") if "object" in kinds else None
    if mapping is None:
        return None
    keys = [*mapping.get("x-either", ()), *schema.required(mapping)]
    fitting = [key for key in keys if schema.takes(fragment, {key: value})]
    if _is_data_file(value):
        fitting.sort(key=lambda key: not _names_files(mapping, key, schema))
    return {fitting[0]: value} if fitting else None


def _names_files(mapping: Fragment, key: str, schema: Schema) -> bool:
    """Is the value of this key a location, or a list of them?"""
    found = schema.child(mapping, key) or {}
    branches = [schema.resolve(branch) for branch in (found, *found.get("anyOf", ()))]
    return any("x-location" in part for branch in branches for part in (branch, branch.get("items", {})))


def _is_data_file(value: Any) -> bool:
    """Is it called as files of rows or of texts are, packed or not? A name on the hub has no such end."""
    from .file_kinds import BASELINE_KINDS, unpacked

    return isinstance(value, str) and PurePath(unpacked(value)).suffix.lower() in BASELINE_KINDS


def tell_enum(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    choices = error.validator_value if error.validator == "enum" else [error.validator_value]
    items = _choices_of_items(error, schema)
    one = f"one of {listed(choices)}" if len(choices) > 1 else str(choices[0])
    one += f", or a list of {listed(items, 'and')}" if items else ""
    near = _near_choice(error.instance, [str(choice) for choice in choices if choice is not None], schema)
    if error.validator == "const":
        hint = f"write `{_entry(path, error.validator_value, reporter)}`"
    elif near:
        hint = f"did you mean {near}?"
    elif item := _near_choice(error.instance, items, schema):
        hint = f"write `{_entry(path, [item], reporter)}`"
    else:
        hint = ""
    reporter.error("E204", path, f"`{reporter.spelled(path)}` must be {one}, it is {quoted(error.instance)}", hint)
    return [path]


def _near_choice(value: Any, choices: list[str], schema: Schema) -> str:
    """The choice that was probably meant, or "". A word that means something else in this language (`decoder`,
    where there is only `encoder`) is hardly a misspelling."""
    from .other_names import VALUES

    word = str(value)
    if word in choices:
        return word
    if VALUES.get(word.lower()) in choices:
        return VALUES[word.lower()]
    return did_you_mean(word, choices, 0.9 if any(word == key for *_, key in schema.key_paths()) else 0.6)


def _choices_of_items(error: Any, schema: Schema) -> list[str]:
    """The words that a list may have where this single word was refused; [] where no list is possible."""
    if error.parent is None or error.parent.validator != "anyOf" or error.relative_path:
        return []
    branches = [schema.resolve(branch) for branch in error.parent.validator_value]
    lists = [branch for branch in branches if "array" in schema.kinds(branch) and "items" in branch]
    return [word for branch in lists for word in schema.resolve(branch["items"]).get("enum", ())]


BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def tell_bound(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    bound = f"{BOUNDS[error.validator]} {error.validator_value}"
    written = reporter.places.texts.get(path, error.instance)
    hint = _what_null_means(error.schema, path) if error.validator.endswith("inimum") else ""
    reporter.error("E205", path, f"`{reporter.spelled(path)}` must be {bound}, it is {written}", hint)
    return [path]


def _what_null_means(fragment: Fragment, path: Trail) -> str:
    """What to type to switch a setting off, where null does."""
    found = re.search(r"null: ([^.;]+)", fragment.get("description", ""))
    return f"`{_last_name(path)}: null` means {found.group(1)}" if found and "null" in fragment["type"] else ""


def tell_either(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    if not isinstance(error.instance, Mapping):
        return [path]  # told as a wrong type
    choices = error.schema.get("x-either", ())
    present = [key for key in error.instance if key in choices]
    known = error.schema.get("properties", {})
    if not present and any(did_you_mean(key, known) in choices for key in error.instance if key not in known):
        return [path]  # told as a misspelt key
    from .other_names import name_of_a_model

    others = [key for key in error.instance if key not in known]
    if not present and any(name_of_a_model(key, error.instance, error.schema) for key in others):
        return [path]  # told as a key that is called otherwise here
    companions = error.schema.get("dependentRequired", {})
    if not present and any(set(companions.get(key, ())) & set(choices) for key in error.instance):
        return [path]  # told as a key without its companion
    named = listed(f"`{choice}`" for choice in choices)
    where = reporter.spelled(path) or "the spec"
    if present:
        # Where somebody added the second one.
        latest = max(present, key=lambda key: _order(reporter, (*path, key)))
        reporter.error(
            "E206",
            (*path, latest),
            f"`{where}` needs exactly one of {named}, it has {listed((f'`{key}`' for key in present), 'and')}",
            "keep one of them",
            at="key",
        )
    else:
        reporter.error(
            "E206",
            path,
            f"`{where}` needs exactly one of {named}, it has none",
            f"for example `{_entry(path, schema.example(error.schema), reporter)}`",
            at="key",
        )
    return [path]


def tell_dependent(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    from .other_names import name_of_a_model

    refused: list[Trail] = []
    for key, needed in error.validator_value.items():
        for other in needed:
            if key not in error.instance or other in error.instance:
                continue
            reporter.error(
                "E207",
                (*path, key),
                f"`{key}` goes with `{other}`, which is not in `{reporter.spelled(path)}`",
                name_of_a_model(key, error.instance, error.schema) or f"add `{other}`, or remove `{key}`",
                at="key",
            )
            refused += [(*path, key), (*path, other)]
    return refused


def tell_text(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    words = error.schema.get("x-words")
    what = f"`{reporter.spelled(path)}`"
    if error.validator == "maxLength":
        message = f"{what} has {len(error.instance)} characters, more than {error.validator_value}"
    elif error.validator == "minLength" or error.instance == "":
        message = f"{what} is empty"
    else:
        message = f"{what} must be {words or 'another text'}, it is {quoted(error.instance)}"
    reporter.error("E208", path, message, location_hint(str(error.instance)))
    return [path]


def tell_size(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    what, limit, count = f"`{reporter.spelled(path)}`", error.validator_value, len(error.instance)
    if error.validator == "uniqueItems":
        twice = [item for i, item in enumerate(error.instance) if item in error.instance[:i]]
        index = max(i for i, item in enumerate(error.instance) if item == twice[0])
        reporter.error("E209", (*path, index), f"{what} has {quoted(twice[0])} twice", "remove one of them")
        return [path]
    entries = "entry" if limit == 1 else "entries"
    word = "at least" if error.validator.startswith("min") else "at most"
    if error.validator == "maxProperties" and path and isinstance(path[-1], int):
        apart = [{key: value} for key, value in error.instance.items()]
        hint = f"write `{_entry(path[:-1], apart, reporter)}`"
    else:
        example = error.schema.get("default") or schema.example(error.schema)
        hint = f"for example `{_entry(path, example, reporter)}`"
    reporter.error("E209", path, f"{what} must have {word} {limit} {entries}, it has {count}", hint)
    return [path]


def tell_name(error: Any, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    """A key that the user chose and that may not be called so."""
    from .other_names import what_to_type

    rule, name = error.schema, error.instance
    if "enum" in rule:
        near = did_you_mean(str(name), rule["enum"])
        hint = what_to_type(str(name), None, (), rule["enum"], schema).removesuffix(", at the top level")
        hint = hint if hint else f"did you mean `{near}`?" if near else f"known here: {listed(rule['enum'], 'and')}"
        message = f"unknown key {quoted(name)} in `{reporter.spelled(path)}`"
    else:
        message = f"the key {quoted(name)} must be {rule.get('x-words', 'another name')}"
        holder = schema.at(path)
        known = list(schema.resolve(holder).get("properties", ())) if holder is not None else []
        before, dot, last = name.rpartition(".")
        near = did_you_mean(last, known)
        hint = "rename it" if len(known) < 2 else f"known here: {listed(known, 'and')}"
        hint = f"did you mean `{before}{dot}{near}`?" if near else hint
    reporter.error("E201" if "enum" in rule else "E208", (*path, name), message, hint, at="key")
    return [(*path, name)]


TELLERS = {
    "additionalProperties": tell_additional,
    "required": tell_required,
    "type": tell_type,
    "anyOf": tell_type,
    "enum": tell_enum,
    "const": tell_enum,
    "minimum": tell_bound,
    "maximum": tell_bound,
    "exclusiveMinimum": tell_bound,
    "exclusiveMaximum": tell_bound,
    "oneOf": tell_either,
    "dependentRequired": tell_dependent,
    "pattern": tell_text,
    "minLength": tell_text,
    "maxLength": tell_text,
    "uniqueItems": tell_size,
    "minItems": tell_size,
    "maxItems": tell_size,
    "minProperties": tell_size,
    "maxProperties": tell_size,
}


def _order(reporter: Reporter, path: Trail) -> tuple[bool, int, int]:
    place = reporter.place(path, "key")
    return place.file == "--set", place.line, place.column


def flow(value: Any) -> str:
    """A value as one line of YAML. What writes YAML is imported when something is wrong: `check` starts quickly."""
    from . import yaml_text

    return yaml_text.flow(value)


def _entry(path: Trail, value: Any, reporter: Reporter) -> str:
    """`key: value` as it may be typed for what stands at `path`: an item of a list stands within its brackets."""
    for step in reversed(reporter.typed(path)):
        if isinstance(step, str):
            return f"{step}: {flow(value)}"
        value = [value]
    return f"spec: {flow(value)}"


def _last_name(path: Trail) -> str:
    return next((step for step in reversed(path) if isinstance(step, str)), "spec")


def _is_number(text: str) -> bool:
    try:
        float(text.replace("_", "").replace(",", ""))
    except ValueError:
        return False
    return True


# --- mending -------------------------------------------------------------------------------------


def mend(tree: Any, schema: Schema, refused: Iterable[Trail]) -> Any | None:
    """A copy of the tree that fits the schema: refused values are left out, and what is then missing is
    taken from the schema's examples. None: it cannot be mended like that."""
    mended = copy.deepcopy(tree)
    holder = validator(schema.root)
    for path in sorted(refused, key=len, reverse=True):
        _remove(mended, path)
    for _ in range(6):
        errors = list(_specific(holder.iter_errors(mended), schema))
        if not errors:
            return mended
        for error in errors:
            path = tuple(error.absolute_path)
            if error.validator == "required":
                for key in error.validator_value:
                    below = schema.child(error.schema if path else schema.root, key)
                    if key not in error.instance and below is not None:
                        error.instance[key] = stand_in(schema, below)
            elif path:
                _remove(mended, path)
            else:
                return None
    return None


def stand_in(schema: Schema, fragment: Fragment) -> Any:
    """The example of a fragment, spelled out."""

    def nodes(value: Any) -> Node:
        if isinstance(value, Mapping):
            return Node({key: nodes(item) for key, item in value.items()}, NOWHERE)
        return Node([nodes(item) for item in value] if isinstance(value, list) else value, NOWHERE)

    return flatten(spell_out(nodes(schema.example(fragment)), schema, fragment), Places())


NOWHERE = Position("", 1, 1)


def _remove(tree: Any, path: Trail) -> None:
    """Take the value at `path` out; from a list, the whole list (its other items lose their place)."""
    holder: Any = None
    for step in path[:-1]:
        try:
            if isinstance(tree, dict):
                holder = (tree, step)
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(tree, dict):
        tree.pop(path[-1], None)
    elif isinstance(tree, list) and holder is not None:
        holder[0].pop(holder[1], None)
