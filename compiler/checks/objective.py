"""Rules about the terms of the loss and about what they look at."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnostics.diagnostic import Reporter, listed
from ..spec.experiment import Experiment, is_schedule
from ..spec.ways import Tree, trainings
from ..tasks.task import HAVE_MASKING, TASKS
from .context import SpecContext

DIVERGENCE_OPTIONS = {"beta": "jsd", "alpha": "skew-kl"}
OF_TEACHER = ("forward-kl", "skew-kl")  # means over the teacher's distribution


def check_loss(spec: SpecContext) -> None:
    """At least one term of the loss has a weight (E409)."""
    run, reporter = spec.run, spec.reporter
    for path, part in trainings(run):
        loss = part.loss
        if not loss.terms:
            reporter.error(
                "E409",
                (*path, "loss"),
                "every term of the loss has the weight 0",
                "write `loss: {labels: 1}`",
                at="key",
            )


def check_logits(spec: SpecContext) -> None:
    """Options of another divergence or another task would be ignored: they are refused."""
    run, tree, reporter = spec.run, spec.tree, spec.reporter
    term = tree["loss"].get("logits", {})
    for option, divergence in DIVERGENCE_OPTIONS.items():
        if option in term and term["divergence"] != divergence:
            reporter.error(
                "E413",
                ("loss", "logits", option),
                f"`{option}` belongs to the divergence {divergence}, this one is {term['divergence']}",
                f"remove it, or write `divergence: {divergence}`",
                at="key",
                because=[("loss", "logits", "divergence")],
            )
    if term.get("divergence") == "mse" and reporter.written(("loss", "logits", "temperature")):
        reporter.error(
            "E413",
            ("loss", "logits", "temperature"),
            "`temperature` belongs to divergences of distributions, and mse compares the logits themselves",
            "remove it, or write `divergence: forward-kl`",
            at="key",
            because=[("loss", "logits", "divergence")],
        )
    if "positions" in term and not TASKS[run.task].has_masking:
        reporter.error(
            "E413",
            ("loss", "logits", "positions"),
            f"`positions` belongs to the task {listed(HAVE_MASKING)}, this one is {run.task}",
            "remove it: the distributions are compared where the labels are",
            at="key",
            because=[("task",)],
        )
    if term.get("candidates", "all") != "all":
        _check_candidates(run, term, reporter)


def check_numbers(spec: SpecContext) -> None:
    """A number that is predicted has no distribution: neither a divergence nor smoothing means anything (E420)."""
    run, reporter = spec.run, spec.reporter
    if TASKS[run.task].num_outputs != 1:
        return
    for path, part in trainings(run):
        logits, labels = part.loss.logits, part.loss.labels
        if logits is not None and logits.divergence != "mse":
            reporter.error(
                "E420",
                (*path, "loss", "logits"),
                f"{logits.divergence} compares distributions, and over one output it is 0 whatever the models say",
                "write `logits: {weight: ..., divergence: mse}`, the squared error of their numbers",
                at="key",
                because=[("task",)],
            )
        if labels is not None and labels.smoothing:
            reporter.error(
                "E420",
                (*path, "loss", "labels", "smoothing"),
                "smoothing spreads a probability over classes, and here a number is predicted",
                "remove it",
                at="key",
                because=[("task",)],
            )


def _check_candidates(run: Experiment, term: Tree, reporter: Reporter) -> None:
    """Candidates fit the task, the divergence and the temperature (E413, E594, E595)."""
    path = ("loss", "logits", "candidates")
    if not TASKS[run.task].writes_texts:
        reporter.error(
            "E413",
            path,
            f"`candidates` belong to tasks that write texts, this one is {run.task}",
            "remove it: all outcomes are compared",
            at="key",
            because=[("task",)],
        )
    if term["divergence"] not in OF_TEACHER:
        reporter.error(
            "E594",
            path,
            "mse compares all logits, and candidates are some of them"
            if term["divergence"] == "mse"
            else f"{term['divergence']} weighs tokens by the student's probabilities, and candidates are the teacher's",
            "write `candidates: all`, or `divergence: forward-kl`",
            at="key",
            because=[("loss", "logits", "divergence")],
        )
    if is_schedule(term["temperature"]):
        reporter.error(
            "E595",
            path,
            "candidates are kept for one temperature, and here it changes",
            "write `candidates: all`, or one temperature, for example `temperature: 2.0`",
            at="key",
            because=[("loss", "logits", "temperature")],
        )


def check_alignment(spec: SpecContext) -> None:
    """`align: inputs` never supervises the last layer of the student (W411)."""
    run, reporter = spec.run, spec.reporter
    hidden = run.training.loss.hidden
    if hidden is not None and hidden.align == "inputs":
        reporter.warning(
            "W411",
            ("loss", "hidden", "align"),
            "with `align: inputs` the last layer of the student is never supervised",
            "remove it, unless results of the code of 2020 are to be reproduced",
        )


def check_phi_used(runs: Sequence[tuple[Experiment, Reporter]], reporter: Reporter) -> None:
    """A φ that no run uses has no effect (W415)."""
    if any(run.training.loss.needs_phi for run, _ in runs):
        return
    for _, own in runs:
        for stack in ("encoder", "decoder"):
            if own.written(("phi", stack)):
                own.warning(
                    "W415",
                    ("phi", stack),
                    "no term of the loss uses φ: it is for `hidden` and `attention`",
                    "remove it, or add for example `loss: {hidden: {decoder: 3.0}}`",
                    at="key",
                    because=[("loss",)],
                )
