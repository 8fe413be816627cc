"""Rules across the fields of a run, one function a rule (E4xx, W4xx). Nothing here looks at the machine.

What needs a model's config.json (depths, widths, families) or the data files is judged in `lower`. The rules
themselves are in rules/, by subject.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnostics.diagnostic import Reporter
from ..spec.experiment import Experiment
from ..spec.ways import Tree
from .baselines import check_baselines
from .data import check_leakage, check_sources
from .extensions import check_extensions
from .models import check_available, check_freeze, check_teacher
from .objective import check_alignment, check_logits, check_loss, check_phi_used
from .schedules import check_schedules
from .targets import (
    check_known_to_hurt,
    check_labellers,
    check_labellers_used,
    check_off_policy,
    check_targets,
    check_targets_once,
)
from .task import (
    check_can_be_run,
    check_columns,
    check_columns_differ,
    check_expected,
    check_masking,
    check_metrics,
    check_monitor,
    check_task_keys,
    check_text_columns,
)
from .training import check_bounds, check_generation, check_search_settings, check_validations, check_warmup

CHECKS = (
    check_available,
    check_can_be_run,
    check_extensions,
    check_task_keys,
    check_metrics,
    check_monitor,
    check_columns,
    check_columns_differ,
    check_text_columns,
    check_masking,
    check_expected,
    check_baselines,
    check_sources,
    check_leakage,
    check_bounds,
    check_validations,
    check_warmup,
    check_generation,
    check_search_settings,
    check_loss,
    check_logits,
    check_schedules,
    check_alignment,
    check_targets,
    check_targets_once,
    check_labellers,
    check_known_to_hurt,
    check_off_policy,
    check_teacher,
    check_freeze,
)
TOGETHER = (check_labellers_used, check_phi_used)


def check(run: Experiment, tree: Tree, reporter: Reporter) -> None:
    """Hold a run to every rule."""
    for rule in CHECKS:
        rule(run, tree, reporter)


def check_together(runs: Sequence[tuple[Experiment, Reporter]], reporter: Reporter) -> None:
    """Hold the runs of a spec to the rules about all of them at once."""
    for rule in TOGETHER:
        rule(runs, reporter)
