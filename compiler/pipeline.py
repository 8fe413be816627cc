"""The stages of the compiler, in order, and nothing else.

compile_spec:  files -> compose -> validate -> bind -> check
lower_runs:    typed runs -> lower
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .check import check
from .compose import compose
from .diagnostics import Diagnostic, Places, Reporter, in_order
from .experiment import Experiment, bind_experiment
from .parse import Files, flatten
from .site import Site
from .structure import load_schema, with_defaults
from .validate import mend, validate


@dataclass(frozen=True)
class Run:
    """One run of a spec: typed, as a resolved tree (JSON values, defaults filled in), and its reporter.
    `lowerable`: are its models known well enough to look at them?"""

    experiment: Experiment
    tree: Mapping[str, Any]
    reporter: Reporter
    spec_file: Path
    lowerable: bool


@dataclass(frozen=True)
class Compiled:
    """The runs of a spec, as far as they could be made out. `texts`: file -> text, for printing."""

    runs: list[Run]
    diagnostics: list[Diagnostic]
    texts: Mapping[str, str]

    @property
    def failed(self) -> bool:
        return any(diagnostic.severity == "error" for diagnostic in self.diagnostics)


def compile_spec(path: Path, overrides: tuple[str, ...], site: Site) -> Compiled:
    """A spec as typed, checked runs. What is wrong in one place does not hide what is wrong in another:
    rules across fields are also held to the parts of a spec that are well-formed."""
    schema = load_schema("experiment")
    files = Files()
    reader = Reporter(Places(chains=files.chains), file=path)
    node = compose(path, overrides, schema, site.paths, files, reader)
    if node is None:
        return Compiled([], reader.diagnostics, files.texts)
    places = Places(chains=files.chains)
    tree = flatten(node, places)
    reporter = Reporter(places, unreliable=files.refused, file=path)
    reporter.take(reader.diagnostics)
    refused = files.refused | validate(tree, schema, reporter, complete=files.complete)
    whole = mend(tree, schema, refused) if refused else tree
    if whole is None:
        return Compiled([], reporter.diagnostics, files.texts)
    resolved = with_defaults(schema, schema.root, whole)
    experiment = bind_experiment(resolved)
    checker = Reporter(places, unreliable=refused, file=path)
    checker.take(reporter.diagnostics)
    check(experiment, resolved, checker)
    unsure = [tuple(p) for p in refused] + [(d.path,) for d in checker.diagnostics if d.code == "E401"]
    lowerable = not any(str(p[0] if p else "task").startswith(("task", "teacher", "student")) for p in unsure)
    run = Run(experiment, resolved, checker, path, lowerable)
    return Compiled([run], checker.diagnostics, files.texts)


def lower_runs(compiled: Compiled, site: Site, *, fingerprints: bool) -> tuple[list[dict[str, Any]], Compiled]:
    """The plans of the runs, and what was found out on the way. `fingerprints` False looks only whether
    models and data are there; the plans of a run whose model is not on this machine are then missing."""
    from .lower import lower

    plans = []
    for run in compiled.runs:
        if run.lowerable:
            plan = lower(run.experiment, run.tree, run.reporter, site, fingerprints=fingerprints)
            if plan is not None:
                plans.append(plan)
    found = in_order(d for run in compiled.runs for d in run.reporter.diagnostics)
    return plans, Compiled(compiled.runs, found or compiled.diagnostics, compiled.texts)
