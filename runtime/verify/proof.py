"""What was proved, and what was not: one line of the table each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..failure import Failure

State = Literal["proved", "failed", "exempt"]

# What each point claims, and the code of its diagnosis.
POINTS = {
    "a": ("a student that is its teacher has nothing to learn from it", "R310"),
    "b": ("chunked logits equal plain ones", "R311"),
    "c": ("a step does not depend on how it is cut", "R312"),
    "d": ("padding changes nothing", "R313"),
    "e": ("a step changes what is trained and nothing else", "R314"),
    "f": ("the student is made of the layers of the plan", "R315"),
    "g": ("the steps are those of the plan", "R316"),
    "h": ("the terms equal an independent reference", "R317"),
    "i": ("kept states of the teacher are the computed ones", "R318"),
    "j": ("what is predicted is what the rows say", "R325"),
}


CAUSES_FIRST = "jfebhicdag"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """`point`: a letter of POINTS. `deviation`, measured, and `tolerance`: largest relative differences; None where
    something holds or does not. `note`: of a failed one, the defect's place; of an exempt one, why."""

    point: str
    claim: str
    state: State
    deviation: float | None = None
    tolerance: float | None = None
    note: str = ""


def measured(point: str, claim: str, deviation: float, tolerance: float, note: str) -> Proof:
    """A proof by measurement; `note` is kept when it failed. A deviation that is no number fails."""
    held = deviation <= tolerance
    return Proof(
        point=point,
        claim=claim,
        state="proved" if held else "failed",
        deviation=deviation,
        tolerance=tolerance,
        note="" if held else note,
    )


def held(point: str, claim: str, defect: str | None) -> Proof:
    """A proof of something that holds or does not; `defect`: where it does not."""
    return Proof(point=point, claim=claim, state="proved" if defect is None else "failed", note=defect or "")


def exempt(point: str, claim: str, why: str) -> Proof:
    """What is not proved, by name."""
    return Proof(point=point, claim=claim, state="exempt", note=why)


def diagnosis(proofs: list[Proof]) -> Failure | None:
    """The failure of the proofs that failed, None when none did. Causes come before effects: what the student is
    made of and what is frozen first, then its head, then the terms."""
    failed = [proof for proof in proofs if proof.state == "failed"]
    failed.sort(key=lambda proof: CAUSES_FIRST.index(proof.point))
    if not failed:
        return None
    first, rest = failed[0], len(failed) - 1
    more = f"; {rest} more {'proof fails' if rest == 1 else 'proofs fail'}" if rest else ""
    return Failure(
        POINTS[first.point][1],
        f"{first.note} ({first.point}: {first.claim}{more})",
        "nothing was trained; if the spec means what it says, this is a fault of distilc: please report it",
    )
