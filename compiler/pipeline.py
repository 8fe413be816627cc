"""The stages of the compiler, in order, and nothing else.

compile_spec:  files -> compose -> expand -> validate -> normalise -> bind -> check -> specs named for a model
lower_runs:    typed runs -> lower
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks.check import SPEC, check_together, hold
from .checks.context import SpecContext
from .diagnostics.diagnostic import Diagnostic, Places, Reporter
from .resolve.site import Site
from .spec.bind import bind_experiment
from .spec.compiled import Compiled, Run
from .spec.compose import FRAME, compose
from .spec.expand import Expansion, Point
from .spec.named_specs import NamedSpecs
from .spec.normalise import normalise
from .spec.parse import Files, Node, without
from .spec.phases import phases_of
from .spec.sections import Section, Sections, whole_tree
from .spec.structure import Schema, load_schema

if TYPE_CHECKING:
    from .plan.plan import Plan


def compile_spec(path: Path, overrides: tuple[str, ...], site: Site) -> Compiled:
    """A spec as typed, checked runs, with the runs of other specs that they name. What is wrong in one place does
    not hide what is wrong in another: rules across fields are also held to the parts of a spec that are
    well-formed. `overrides` are for this spec alone."""
    return NamedSpecs(path, lambda named: _compile(named, (), site)).follow(_compile(path, overrides, site))


def _compile(path: Path, overrides: tuple[str, ...], site: Site) -> Compiled:
    """One spec by itself."""
    schema = load_schema("experiment")
    files = Files()
    reporter = Reporter(Places(chains=files.chains), file=path)
    composed = compose(path, overrides, schema, files, reporter)
    if composed is None:
        return Compiled([], reporter.diagnostics, files.texts)
    tree = composed.tree
    assert isinstance(tree.value, dict)
    is_spec = not files.complete or any(key in tree.value for key in OF_A_SPEC)
    sections = Sections(schema, site.paths, files, path)
    tree = _sound_frame(tree, sections, reporter)
    points = Expansion(schema, reporter, composed.later, composed.removed).expand(tree)
    runs = [_run(point, sections, schema, path) for point in points]
    phases = [phase for run in runs for phase in phases_of(run.experiment, run.tree, run.reporter)]
    check_together([(phase.run, phase.reporter) for phase in phases], reporter)
    return Compiled(runs, reporter.diagnostics, files.texts, is_spec)


OF_A_SPEC = ("version", "task", "teacher", "student")  # a file without any of these is something else


def lower_runs(compiled: Compiled, site: Site, *, fingerprints: bool) -> tuple[list[Plan], Compiled]:
    """The plans of the runs, and what was found out on the way. `fingerprints` False looks only whether
    models and data are there; the plans of a run whose model is not on this machine are then missing."""
    from .plan.lower import Lowering

    lowering = Lowering(site, fingerprints=fingerprints)
    plans = []
    for run in compiled.runs:
        plan = lowering.lower(run)
        if plan is not None:
            plans.append(plan)
    lowering.close()
    if plans:
        from .plan.signals import with_signals

        plans = with_signals(plans)
    return plans, compiled


def read_data(compiled: Compiled, most_bytes: int | None = None, site: Site | None = None) -> Compiled:
    """The data files of the runs read, those of equal data once; not at all when a run has more than
    `most_bytes` of them. `site`: where teachers are looked for, whose tokenizers are tried on the rows."""
    from .checks.aligned_files import label_files
    from .checks.check_data import check_data, num_bytes
    from .checks.text_remarks import deciding
    from .resolve.scoring import measured, resolve_scoring

    if most_bytes is not None and any(num_bytes(run.experiment) > most_bytes for run in compiled.all_runs):
        return compiled
    known: dict[Any, list[Diagnostic]] = {}
    for run in compiled.all_runs:
        experiment = run.experiment
        baselines = experiment.baselines, experiment.evaluation.limit
        scored = resolve_scoring(experiment), sorted(measured(experiment)), list(deciding(experiment))
        teacher = None if site is None else _teacher_folder(run, site)
        key = repr((experiment.task, experiment.data, label_files(experiment), baselines, scored, teacher))
        if key not in known:
            before = set(run.reporter.diagnostics)
            check_data(experiment, run.reporter, teacher)
            known[key] = [found for found in run.reporter.diagnostics if found not in before]
        run.reporter.take(known[key])
    return compiled


def _teacher_folder(run: Run, site: Site) -> Path | None:
    """Where the files of a teacher are that is made here by no run; None: nowhere, or that was told."""
    from .resolve.run import resolve_teacher

    if run.unsure or any(path[0] == "teacher" for path in run.named):
        return None
    teacher = resolve_teacher(run.experiment, Reporter(Places()), site, None, {})
    return next((Path(folder) for folder in teacher.locations.values()), None) if teacher is not None else None


def _sound_frame(tree: Node, sections: Sections, reporter: Reporter) -> Node:
    """The tree without what does not fit the schema in `variants`, `matrix`, `seeds` and `expect`."""
    assert isinstance(tree.value, dict)
    kept = dict(tree.value)
    for key in FRAME:
        if key not in kept:
            continue
        sound = _sound(key, kept.pop(key), sections, reporter)
        if sound is not None:
            kept[key] = _with_sound_matrices(sound, sections, reporter) if key == "variants" else sound
    return replace(tree, value=kept)


def _sound(key: str, node: Node, sections: Sections, reporter: Reporter) -> Node | None:
    """A section without what does not fit the schema in it; None: nothing of it does."""
    section = sections.section(key, node)
    reporter.take(section.diagnostics)
    if not section.refused:
        return node
    for path in section.refused:
        node = without(node, path[1:]) if path[1:] else node
    return None if sections.section(key, node).refused else node


def _with_sound_matrices(variants: Node, sections: Sections, reporter: Reporter) -> Node:
    """The variants, in which the matrix of a variant has what fits the schema alone, and the nulls that leave a path
    out."""
    assert isinstance(variants.value, dict)
    found = {}
    for name, overlay in variants.value.items():
        whole = overlay.value if isinstance(overlay.value, dict) else {}
        own = whole.get("matrix")
        if own is not None and own.value is not None:
            paths = own.value if isinstance(own.value, dict) else {}
            left_out = {path: node for path, node in paths.items() if node.value is None}
            varied = {path: node for path, node in paths.items() if node.value is not None}
            if varied or not left_out:
                sound = _sound("matrix", replace(own, value=varied) if paths else own, sections, reporter)
                varied = sound.value if sound is not None and isinstance(sound.value, dict) else {}
            own = replace(own, value={**left_out, **varied})
            overlay = replace(overlay, value={**whole, "matrix": own})
        found[name] = overlay
    return replace(variants, value=found)


def _run(point: Point, sections: Sections, schema: Schema, path: Path) -> Run:
    assert isinstance(point.tree.value, dict)
    known = schema.root["properties"]
    root = sections.root(point.tree)
    parts = {key: sections.section(key, node) for key, node in point.tree.value.items() if key in known}
    parts = {key: part for key, part in parts.items() if part.resolved is not None or part.refused}
    resolved, places = whole_tree(root, parts, sections)
    refused = set(sections.files.refused).union(*_refused([root, *parts.values()]))
    name = resolved["name"]
    tree = {
        **resolved,
        "name": f"{name}-{point.label}" if point.label else name,
        "tracking": {**resolved["tracking"], "experiment": resolved["tracking"].get("experiment", name)},
    }
    experiment = bind_experiment(normalise(tree, schema, sections.known), point.variant, sections.known)
    reporter = Reporter(places, unreliable=refused, file=path)
    for part in (root, *parts.values()):
        reporter.take(part.diagnostics)
    reporter.take(point.diagnostics)
    for _, phase, whole, own in phases_of(experiment, tree, reporter):
        hold(SPEC, SpecContext(phase, whole, own))
    unsure = tuple(path for path in refused if not path or path[0] in OF_MODELS)
    return Run(experiment, tree, reporter, path, point.label, unsure)


OF_MODELS = ("task", "teacher", "student", "pseudo_labels")


def _refused(parts: Iterable[Section]) -> Sequence[Iterable[Any]]:
    return [part.refused for part in parts]
