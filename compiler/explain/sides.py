"""The two sides of `diff`: a spec, a plan or a run of the workspace -> its runs.

spec.yaml          all runs of a spec; `spec.yaml#PATTERN`: those that `--only PATTERN` means
plans/my-run       a plan folder, its plan.json, or a folder of plan folders (`plans#PATTERN`)
my-run             a run of the workspace by its name, or by the name of its folder under runs/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import exists, expanduser, isdir, isfile
from pathlib import Path
from typing import Any

from ..diagnostics.diagnostic import Diagnostic, Position, Reporter, did_you_mean, quoted, shown_path
from ..diagnostics.record import record
from ..pipeline import compile_spec, lower_runs
from ..plan.plan import Plan, Stages
from ..plan.plan_folders import PLAN, find_plans, is_plan, read_plan, read_stages
from ..resolve.site import Site
from ..spec.resolved import completed_tree, resolved_tree
from ..spec.selection import choose_runs

KEY_SUFFIX = re.compile(r"-[0-9a-f]{8}\Z")


@record
class Planned:
    """What of a plan is compared. `stores`: where its artifacts may be; `named`: the resolved specs of the runs of
    other specs that it names, by what stands before the ids of their stages."""

    key: str
    stages: Stages
    stores: Sequence[Path]
    named: Mapping[str, Mapping[str, Any]]


@record
class Subject:
    """One run. `label`: its name without the spec's, None where that is not known; `tree`: its resolved spec;
    `planned` None: it could not be lowered; `summary` None: it has not been run to its end."""

    name: str
    label: str | None
    tree: Mapping[str, Any]
    planned: Planned | None
    summary: Mapping[str, Any] | None


@record
class Side:
    """The runs that one word of the command line means. `source`: what they were read from."""

    source: str
    runs: list[Subject]
    diagnostics: list[Diagnostic]
    texts: Mapping[str, str]


def read_side(word: str, overrides: tuple[str, ...], site: Site, reporter: Reporter) -> Side | None:
    """What a word means; a name in the file system comes before one in the workspace.

    None: nothing, and E561 (no such run of it), E562 (a plan that cannot be read), E563 (there is nothing of
    this name) or E564 (several runs have it) is reported.
    """
    found, patterns = _find(word, site), tuple[str, ...]()
    if not found and "#" in word:
        before, _, pattern = word.rpartition("#")
        found, patterns = _find(before, site), (pattern,)
    if not found:
        _refuse(word, site, reporter)
    elif len(found) > 1:
        names = ", ".join(path.name for path in found)
        reporter.error_at("E564", Position(word, 1, 1), f"several runs have the name {word}", f"name one of {names}")
    elif is_plan(found[0]):
        return _planned(word, found[0], patterns, reporter)
    else:
        return _specified(word, found[0], patterns, overrides, site, reporter)
    return None


def _find(word: str, site: Site) -> list[Path]:
    """The files and folders that a word can mean."""
    path = Path(expanduser(word))
    if word and exists(path):
        return [path]
    if "/" in word or not word:
        return []
    runs, plans = site.workspace / "runs", site.workspace / "plans"
    if isfile(runs / word / PLAN):
        return [runs / word]
    named = [folder for folder in _folders(runs) if KEY_SUFFIX.sub("", folder.name) == word]
    return named or [folder for folder in _folders(plans) if folder.name == word]


def _folders(parent: Path) -> list[Path]:
    return sorted(file.parent for file in parent.glob(f"*/{PLAN}"))


def _refuse(word: str, site: Site, reporter: Reporter) -> None:
    known = {KEY_SUFFIX.sub("", folder.name) for folder in _folders(site.workspace / "runs")}
    known |= {folder.name for folder in _folders(site.workspace / "plans")}
    beside = Path(expanduser(word)).parent
    files = [str(file) for file in beside.glob("*.yaml")] if isdir(beside) else []
    near = did_you_mean(word, [*known, *files])
    reporter.error_at(
        "E563",
        Position(word, 1, 1),
        f"{quoted(word)} is not a spec, a plan or a run of the workspace {shown_path(site.workspace)}",
        f"did you mean {near}?" if near else "distilc status lists the runs; --workspace DIR names another workspace",
    )


def _specified(
    word: str, spec: Path, patterns: tuple[str, ...], overrides: tuple[str, ...], site: Site, reporter: Reporter
) -> Side | None:
    compiled = compile_spec(spec, overrides, site)
    if patterns and compiled.runs:
        names: list[tuple[str, str | None]] = [(run.experiment.name, run.label) for run in compiled.runs]
        chosen = choose_runs(names, patterns, word, reporter)
        if not chosen:
            return None
        compiled = replace(compiled, runs=[compiled.runs[i] for i in chosen])
    if compiled.failed:
        if compiled.runs:
            _, compiled = lower_runs(compiled, site, fingerprints=False)
        return Side(word, [], compiled.diagnostics, compiled.texts)
    lowered, compiled = lower_runs(compiled, site, fingerprints=True)
    plans = {plan.name: plan for plan in lowered}
    runs = []
    for run in compiled.runs:
        name = run.experiment.name
        of_it = planned(plans[name]) if name in plans else None
        runs.append(Subject(name, run.label, resolved_tree(run.tree), of_it, None))
    return Side(word, runs, compiled.diagnostics, compiled.texts)


def _planned(word: str, subject: Path, patterns: tuple[str, ...], reporter: Reporter) -> Side | None:
    folders = find_plans(subject)
    plans = [plan for folder in folders if (plan := read_plan(folder, reporter)) is not None]
    if len(plans) < len(folders):
        return None
    chosen = choose_runs([(plan["name"], None) for plan in plans], patterns, word, reporter)
    if not chosen:
        return None
    runs = [
        Subject(plans[i]["name"], None, completed_tree(plans[i]["spec"]), _read(plans[i]), _summary(folders[i]))
        for i in chosen
    ]
    return Side(word, runs, [], {})


def planned(plan: Plan) -> Planned:
    """What is compared of a plan that was compiled now."""
    return Planned(plan.key, plan.stages, plan.stores, {owner: other.tree for owner, other in plan.named.items()})


def _read(plan: Mapping[str, Any]) -> Planned:
    site = plan["site"]
    stores = [Path(site["workspace"]) / "store", *map(Path, site["shared_stores"])]
    named = {owner: found["spec"] for owner, found in plan.get("named", {}).items()}
    return Planned(plan["key"], read_stages(plan), stores, named)


def _summary(folder: Path) -> Mapping[str, Any] | None:
    file = (folder if isdir(folder) else folder.parent) / "summary.json"
    try:
        summary = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) else None
