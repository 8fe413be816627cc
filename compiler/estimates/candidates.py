"""Next tokens that stand for the teacher's distribution: how many there can be, and what keeping them takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..diagnostics.diagnostic import Reporter
from ..resolve.architecture import Architecture
from ..resolve.data_sizes import DataSize
from ..spec.experiment import Experiment

ID_BYTES = PROBABILITY_BYTES = 4  # int32, float32
HEADER_BYTES = 128  # of an array's file


def common_vocabulary(teacher: Architecture, student: Architecture) -> int:
    """The tokens that both models have; what one of them has beyond is padding."""
    return min(teacher.num_logits, student.num_logits)


def token_bytes(kind: str, number: int) -> int:
    """Of one label token: ids and log-probabilities; of the most probable ones also that of all others."""
    return number * (ID_BYTES + PROBABILITY_BYTES) + (PROBABILITY_BYTES if kind == "top-k" else 0)


def exact_token_bytes(teacher: Architecture, precision: str) -> int:
    """Of one label token: the decoder's state, from which all logits are one product away."""
    return teacher.d_model * (4 if precision == "fp32" else 2)


def candidate_bytes(settings: Mapping[str, Any], size: DataSize) -> int:
    """Of all arrays of the stage's artifact, to the byte where the size of the data is exact."""
    candidates = settings["candidates"]
    tokens = round(size.rows * size.target_tokens)
    each = token_bytes(candidates["kind"], candidates["number"])
    return 2 * HEADER_BYTES + tokens * each + HEADER_BYTES + 8 * (size.rows + 1)


def check_candidates(
    experiment: Experiment, teacher: Architecture, student: Architecture, precision: str, reporter: Reporter
) -> None:
    """Reports E595 (as many candidates as tokens), W595 (the exact states take less room)."""
    logits = experiment.training.loss.logits
    if logits is None or logits.candidates is None:
        return
    kind, number = logits.candidates.kind, logits.candidates.number
    path = ("loss", "logits", "candidates", "top_k" if kind == "top-k" else "sampled")
    vocabulary = common_vocabulary(teacher, student)
    if number >= vocabulary:
        reporter.error(
            "E595",
            path,
            f"{number:,} candidates of a vocabulary of {vocabulary:,} tokens are no choice",
            "write `candidates: all`, or fewer",
        )
        return
    each, exact = token_bytes(kind, number), exact_token_bytes(teacher, precision)
    if each >= exact:
        most = max(1, (exact - 1 - token_bytes(kind, 0)) // (ID_BYTES + PROBABILITY_BYTES))
        reporter.warning(
            "W595",
            path,
            f"{number:,} candidates take {each:,} bytes a token; the states that give all logits take {exact:,}",
            f"write `candidates: all`, or at most {most:,}",
        )
