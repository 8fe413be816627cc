"""The rules, one function a rule, in tuples by what has to be known: the spec alone, its site, who writes labels, the
teacher, all models, the data, the plan. The rules themselves are beside this file, by subject; those of
`check --data`, which read whole files, are in `check_data.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..diagnostics.diagnostic import Reporter
from ..spec.experiment import Experiment
from .baselines import check_baselines
from .data import check_leakage, check_sources
from .devices import check_offload, check_precision
from .engines import check_engines
from .extensions import check_extensions
from .fit import check_memory
from .languages import check_languages
from .method import check_layers_replaced, check_method
from .models import check_available, check_freeze, check_teacher
from .objective import check_alignment, check_logits, check_loss, check_numbers, check_phi_used
from .row_counts import check_described_end, check_known_end, check_shares
from .schedules import check_schedules
from .scoring import check_scoring
from .shapes import (
    check_beams,
    check_candidates,
    check_encoder,
    check_label_lengths,
    check_lengths,
    check_reach,
    check_stacks,
)
from .targets import (
    check_known_to_hurt,
    check_labellers,
    check_labellers_used,
    check_off_policy,
    check_targets,
    check_targets_once,
)
from .task import (
    check_columns,
    check_columns_differ,
    check_expected,
    check_masking,
    check_metrics,
    check_monitor,
    check_task_keys,
    check_text_columns,
)
from .training import (
    check_bounds,
    check_generation,
    check_retention,
    check_search_settings,
    check_sections_used,
    check_validations,
    check_warmup,
)

SPEC = (
    check_available,
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
    check_retention,
    check_generation,
    check_search_settings,
    check_loss,
    check_logits,
    check_numbers,
    check_schedules,
    check_method,
    check_alignment,
    check_targets,
    check_targets_once,
    check_labellers,
    check_known_to_hurt,
    check_off_policy,
    check_teacher,
    check_freeze,
)
TOGETHER = (check_labellers_used, check_phi_used, check_sections_used)
SITE = (check_offload, check_scoring)
WRITERS = (check_label_lengths,)
TEACHER = (check_languages, check_lengths, check_beams, check_stacks, check_encoder, check_precision)
MODELS = (check_memory, check_engines, check_reach, check_candidates, check_layers_replaced)
DATA = (check_described_end,)
PLAN = (check_known_end, check_shares)

Context = TypeVar("Context")


def hold(rules: Iterable[Callable[[Context], None]], context: Context) -> None:
    """Hold a run to rules, all of which need the same to be known."""
    for rule in rules:
        rule(context)


def check_together(runs: Sequence[tuple[Experiment, Reporter]], reporter: Reporter) -> None:
    """Hold the runs of a spec to the rules about all of them at once."""
    for rule in TOGETHER:
        rule(runs, reporter)
