"""A tree held to its JSON Schema. What does not fit becomes diagnostics in YAML's words (E2xx).

In: a composed tree with its places. Out: nothing, or diagnostics and a mended copy of the tree, in which
stand-ins take the place of what was refused, so that later rules can still look at the rest.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from ..diagnostics.diagnostic import Places, Position, Reporter, Trail, did_you_mean, dotted, listed, quoted
from ..extensions.schema_files import Fragment, Misfit, kind_of, misfits
from .merging import spell_out
from .parse import Node, flatten
from .paths import location_hint
from .structure import Schema

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
    found = list(_meant(misfits(tree, fragment or schema.root, schema.root), schema))
    mistyped = {misfit.path for misfit in found if misfit.keyword == "type"}
    alone = {
        (*misfit.path, key)
        for misfit in found if misfit.keyword == "dependentRequired"
        for key, needed in misfit.wanted.items() if key in misfit.value and not {*needed} <= {*misfit.value}
    }  # fmt: skip
    undecided = {misfit.path: kinds for misfit in found if len(kinds := _kinds_there(misfit)) > 1}
    for misfit in found:
        path = misfit.path
        if _inside_a_kind(misfit, undecided):
            continue  # which of the kinds is to stay comes first
        if (misfit.keyword in BOUNDS and path in mistyped) or path in alone:
            continue  # one mistake, one message
        if misfit.keyword == "required" and not complete:
            refused.update((*path, key) for key in misfit.wanted if key not in misfit.value)
            continue
        tell = tell_name if misfit.of_name else TELLERS[misfit.keyword]
        mark = (path, f"{misfit.keyword} {misfit.value if misfit.of_name else ''}")
        if mark in told:
            continue
        told.add(mark)
        refused.update(tell(misfit, path, schema, reporter))
    return refused


def _kinds_there(misfit: Misfit) -> list[str]:
    """The keys of an either-or mapping that say what it is, of those that are there."""
    if misfit.keyword != "oneOf" or not isinstance(misfit.value, Mapping):
        return []
    return [key for key in misfit.fragment.get("x-either", ()) if key in misfit.value]


def _inside_a_kind(misfit: Misfit, undecided: Mapping[Trail, list[str]]) -> bool:
    """Is it about what belongs to one of several kinds, of which only one can stay?"""
    path = misfit.path
    if misfit.keyword == "dependentRequired" and path in undecided:
        return True
    return any(path[:end] in undecided and path[end] in undecided[path[:end]] for end in range(len(path)))


def _meant(found: Iterable[Misfit], schema: Schema) -> Iterator[Misfit]:
    """The misfits, those of alternatives replaced by those of the alternative that was meant."""
    for misfit in found:
        if misfit.keyword != "anyOf":
            yield misfit
            continue
        kind = kind_of(misfit.value)
        meant = schema.choose(misfit.fragment, kind, misfit.value if kind == "object" else ())
        index = next((i for i, branch in enumerate(misfit.wanted) if _holds(schema, branch, meant)), None)
        if meant is None or index is None:
            yield misfit
        else:
            yield from _meant((replace(below, within=misfit) for below in misfit.branches[index]), schema)


def _holds(schema: Schema, branch: Fragment, meant: Fragment | None) -> bool:
    resolved = schema.resolve(branch)
    return resolved == meant or any(_holds(schema, below, meant) for below in resolved.get("anyOf", ()))


# --- one function a keyword of JSON Schema ---------------------------------------------------------
# Each reports, and returns the paths that are refused or missing.


def tell_additional(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    from .other_names import name_of_a_model, name_of_data, of_sampling, what_to_type

    known = list(misfit.fragment.get("properties", ()))
    refused: list[Trail] = []
    for key in misfit.value:
        if key in known:
            continue
        near = did_you_mean(key, known)
        elsewhere = [place for place in schema.key_paths() if place[-1] == key and place[:-1] != path]
        inside = f" in `{reporter.spelled(path)}`" if path else ""
        nearer = [place for place in elsewhere if path not in WHOLE_RUNS and place[: len(path)] == path]
        if near and near not in misfit.value:
            refused.append((*path, near))
        if (
            (hint := name_of_a_model(key, misfit.value, misfit.fragment))
            or (hint := of_sampling(key, misfit.value, path, known, schema))
            or (not nearer and (hint := what_to_type(key, misfit.value[key], path, known, schema)))
        ):
            pass
        elif near:
            hint = f"did you mean `{near}`?"
        elif hint := name_of_data(key, misfit.value[key], misfit.fragment):
            pass
        elif elsewhere:
            holder = (nearer or elsewhere)[0][:-1]
            hint = f"`{key}` belongs under `{dotted(holder)}`" if holder else f"`{key}` belongs at the top level"
        else:
            hint = f"known here: {listed(known, 'and')}" if known else "no package that is installed registers one"
        reporter.error("E201", (*path, key), f"unknown key {quoted(key)}{inside}", hint, at="key")
        refused.append((*path, key))
    return refused


WHOLE_RUNS: tuple[Trail, ...] = ((), ("teacher", "train"))  # what lies in them is near to nothing else in them


def tell_required(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    missing = [key for key in misfit.wanted if key not in misfit.value]
    fragment = misfit.fragment if path else schema.root
    for key in missing:
        # A key that was misspelt is told as such.
        known = fragment.get("properties", {})
        if any(did_you_mean(other, known) == key for other in misfit.value if other not in known):
            continue
        below = schema.child(fragment, key)
        example = f"for example `{key}: {flow(schema.example(below))}`" if below is not None else ""
        inside = f" in `{reporter.spelled(path)}`" if path else ""
        reporter.error("E202", path, f"the key `{key}` is missing{inside}", example, at="key")
    return [(*path, key) for key in missing]


def tell_type(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    kinds = [kind for kind in dict.fromkeys(schema.kinds(misfit.fragment)) if kind != "null"]
    if "number" in kinds:
        kinds.remove("integer")
    wanted = listed(WORDS[kind] for kind in kinds)
    value = misfit.value
    found = {"object": "a mapping", "array": "a list", "null": "empty"}.get(kind_of(value))
    written = reporter.places.texts.get(path)
    found = found or (f"the text {quoted(value)}" if isinstance(value, str) else str(written or quoted(value)))
    text = str(written or value)
    if "string" in kinds and kind_of(value) in ("integer", "number", "boolean") and schema.takes(misfit.fragment, text):
        hint = f'quote it: "{text}"'
    elif isinstance(value, str) and "boolean" in kinds and value.lower() in ("yes", "no", "on", "off"):
        hint = f"write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    elif value is False or (isinstance(value, str) and value.lower() in ("off", "no", "none", "never", "disabled")):
        hint = _what_null_means(misfit.fragment, path) if "null" in misfit.fragment.get("type", ()) else ""
    elif isinstance(value, str) and ({"integer", "number"} & set(kinds)) and _is_number(value):
        hint = "write it without quotes, digits only"
    elif (whole := _with_brackets(value, misfit.fragment, schema)) is not None:
        hint = f"write `{_entry(path, whole, reporter)}`"
    elif misfit.keyword == "anyOf" or kinds in (["object"], ["array"]):
        hint = f"for example `{_entry(path, schema.example(misfit.fragment), reporter)}`"
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


def tell_enum(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    choices = misfit.wanted if misfit.keyword == "enum" else [misfit.wanted]
    items = _choices_of_items(misfit, schema)
    one = f"one of {listed(choices)}" if len(choices) > 1 else str(choices[0])
    one += f", or a list of {listed(items, 'and')}" if items else ""
    near = _near_choice(misfit.value, [str(choice) for choice in choices if choice is not None], schema)
    if misfit.keyword == "const":
        hint = f"write `{_entry(path, misfit.wanted, reporter)}`"
    elif near:
        hint = f"did you mean {near}?"
    elif item := _near_choice(misfit.value, items, schema):
        hint = f"write `{_entry(path, [item], reporter)}`"
    else:
        hint = ""
    reporter.error("E204", path, f"`{reporter.spelled(path)}` must be {one}, it is {quoted(misfit.value)}", hint)
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


def _choices_of_items(misfit: Misfit, schema: Schema) -> list[str]:
    """The words that a list may have where this single word was refused; [] where no list is possible."""
    if misfit.within is None or misfit.path != misfit.within.path:
        return []
    branches = [schema.resolve(branch) for branch in misfit.within.wanted]
    lists = [branch for branch in branches if "array" in schema.kinds(branch) and "items" in branch]
    return [word for branch in lists for word in schema.resolve(branch["items"]).get("enum", ())]


BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def tell_bound(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    bound = f"{BOUNDS[misfit.keyword]} {misfit.wanted}"
    written = reporter.places.texts.get(path, misfit.value)
    hint = _what_null_means(misfit.fragment, path) if misfit.keyword.endswith("inimum") else ""
    reporter.error("E205", path, f"`{reporter.spelled(path)}` must be {bound}, it is {written}", hint)
    return [path]


def _what_null_means(fragment: Fragment, path: Trail) -> str:
    """What to type to switch a setting off, where null does."""
    found = re.search(r"null: ([^.;]+)", fragment.get("description", ""))
    return f"`{_last_name(path)}: null` means {found.group(1)}" if found and "null" in fragment["type"] else ""


def tell_either(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    if not isinstance(misfit.value, Mapping):
        return [path]  # told as a wrong type
    choices = misfit.fragment.get("x-either", ())
    present = [key for key in misfit.value if key in choices]
    known = misfit.fragment.get("properties", {})
    if not present and any(did_you_mean(key, known) in choices for key in misfit.value if key not in known):
        return [path]  # told as a misspelt key
    from .other_names import name_of_a_model

    others = [key for key in misfit.value if key not in known]
    if not present and any(name_of_a_model(key, misfit.value, misfit.fragment) for key in others):
        return [path]  # told as a key that is called otherwise here
    companions = misfit.fragment.get("dependentRequired", {})
    if not present and any(set(companions.get(key, ())) & set(choices) for key in misfit.value):
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
            f"for example `{_entry(path, schema.example(misfit.fragment), reporter)}`",
            at="key",
        )
    return [path]


def tell_dependent(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    from .other_names import name_of_a_model

    refused: list[Trail] = []
    for key, needed in misfit.wanted.items():
        for other in needed:
            if key not in misfit.value or other in misfit.value:
                continue
            reporter.error(
                "E207",
                (*path, key),
                f"`{key}` goes with `{other}`, which is not in `{reporter.spelled(path)}`",
                name_of_a_model(key, misfit.value, misfit.fragment) or f"add `{other}`, or remove `{key}`",
                at="key",
            )
            refused += [(*path, key), (*path, other)]
    return refused


def tell_text(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    words = misfit.fragment.get("x-words")
    what = f"`{reporter.spelled(path)}`"
    if misfit.keyword == "maxLength":
        message = f"{what} has {len(misfit.value)} characters, more than {misfit.wanted}"
    elif misfit.keyword == "minLength" or misfit.value == "":
        message = f"{what} is empty"
    else:
        message = f"{what} must be {words or 'another text'}, it is {quoted(misfit.value)}"
    reporter.error("E208", path, message, location_hint(str(misfit.value)))
    return [path]


def tell_size(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    what, limit, count = f"`{reporter.spelled(path)}`", misfit.wanted, len(misfit.value)
    if misfit.keyword == "uniqueItems":
        twice = [item for i, item in enumerate(misfit.value) if item in misfit.value[:i]]
        index = max(i for i, item in enumerate(misfit.value) if item == twice[0])
        reporter.error("E209", (*path, index), f"{what} has {quoted(twice[0])} twice", "remove one of them")
        return [path]
    entries = "entry" if limit == 1 else "entries"
    word = "at least" if misfit.keyword.startswith("min") else "at most"
    if misfit.keyword == "maxProperties" and path and isinstance(path[-1], int):
        apart = [{key: value} for key, value in misfit.value.items()]
        hint = f"write `{_entry(path[:-1], apart, reporter)}`"
    else:
        example = misfit.fragment.get("default") or schema.example(misfit.fragment)
        hint = f"for example `{_entry(path, example, reporter)}`"
    reporter.error("E209", path, f"{what} must have {word} {limit} {entries}, it has {count}", hint)
    return [path]


def tell_name(misfit: Misfit, path: Trail, schema: Schema, reporter: Reporter) -> list[Trail]:
    """A key that the user chose and that may not be called so."""
    from .other_names import what_to_type

    rule, name = misfit.fragment, misfit.value
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
    for path in sorted(refused, key=len, reverse=True):
        _remove(mended, path)
    for _ in range(6):
        found = list(_meant(misfits(mended, schema.root, schema.root), schema))
        if not found:
            return mended
        for misfit in found:
            if misfit.keyword == "required":
                for key in misfit.wanted:
                    below = schema.child(misfit.fragment if misfit.path else schema.root, key)
                    if key not in misfit.value and below is not None:
                        misfit.value[key] = stand_in(schema, below)
            elif misfit.path:
                _remove(mended, misfit.path)
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
