"""Systems of others as rows of the result table: their files of predictions, found, and what is known of them."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path

from ..diagnostics.diagnostic import Reporter
from ..diagnostics.regular_file import why_not
from ..spec.experiment import Experiment
from ..spec.file_kinds import BASELINE_KINDS, is_refused
from ..spec.paths import missing_hint, shown_location
from ..spec.ways import baseline_path
from .fingerprint import Fingerprints, fingerprint_of


def resolve_baselines(
    run: Experiment, reporter: Reporter, fingerprints: Fingerprints | None
) -> dict[str, dict[str, tuple[str, str]]]:
    """Name -> test set -> the fingerprint of its file, and where it is. Reports E508: it is not there."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, baseline in run.baselines.items():
        found[name] = {}
        for test_set, place in baseline.predictions.items():
            file = Path(place)
            if is_refused(place, BASELINE_KINDS):
                continue  # the rules said so
            if not isfile(file):
                path = baseline_path(run, name, test_set)
                message = f"the file of predictions {shown_location(file, path, reporter)} {why_not(file)}"
                reporter.error("E508", path, message, missing_hint(place, path, reporter))
                continue
            try:
                found[name][test_set] = fingerprint_of(file, fingerprints), place
            except OSError as error:
                path = baseline_path(run, name, test_set)
                message = f"cannot read {shown_location(file, path, reporter)}: {error.strerror}"
                reporter.error("E508", path, message, "check its permissions")
    return found


def baseline_facts(run: Experiment) -> dict[str, dict[str, float | None]]:
    """What is known of the systems and is no score: for the table, in no key."""
    return {
        name: {
            "million_parameters": baseline.million_parameters,
            "examples_per_second": baseline.examples_per_second,
        }
        for name, baseline in run.baselines.items()
    }
