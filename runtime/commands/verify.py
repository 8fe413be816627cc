"""`verify`: plans -> a table of what was proved of each, as text or as JSON; the exit code."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..available import check_available
from ..execution.console import Console
from ..execution.pending import pending_stages
from ..execution.processes import num_cores
from ..execution.store import Store, open_store
from ..extensions import require
from ..failure import Failure
from ..messages.terminal import tell
from ..plan.load import load_plan
from ..plan.plan import Plan, Stage
from ..verify.proof import POINTS, Proof, diagnosis
from .run import Options
from .run import main as drive

WORDS = {"proved": "ok", "failed": "FAIL", "exempt": "-"}


@dataclass
class Verified:
    """What came out for one plan. `rows`: how many rows it was proved on."""

    name: str
    proofs: list[Proof] = field(default_factory=list)
    failure: Failure | None = None
    rows: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "passed": self.failure is None,
            "diagnosis": None if self.failure is None else {"code": self.failure.code, "message": self.failure.message},
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "proofs": [_written(proof) for proof in self.proofs],
        }


def _written(proof: Proof) -> dict[str, Any]:
    """JSON has no word for a deviation that is no number; that the proof failed stands beside it."""
    finite = proof.deviation is None or math.isfinite(proof.deviation)
    return asdict(proof if finite else replace(proof, deviation=None))


def main(argv: Sequence[str]) -> int:
    """`verify PLAN... [--json] [--workspace DIR]`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="distilc verify", description=__doc__)
    parser.add_argument("plans", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workspace", type=Path)
    options = parser.parse_args(argv)
    found: list[Verified] = []
    codes: list[int] = []
    # What is not the answer goes to stderr where the answer is for a program.
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        for folder in options.plans:
            proved, code = verify(folder, options.workspace)
            codes.append(code)
            found += proved
            for verified in proved if not options.json else ():
                tell(table(verified))
            if code in (75, 130):
                break
    if options.json:
        tell(json.dumps({"version": 1, "runs": [verified.as_json() for verified in found]}, indent=1, allow_nan=False))
    return next((code for code in codes if code), 0)


def verify(folder: Path, workspace: Path | None) -> tuple[list[Verified], int]:
    """One plan: its student made, if it is not there, and everything proved of each phase of its training, up to the
    first that fails. ([]: not even begun, exit code)."""
    console, plan = Console(), None
    verified: list[Verified] = []
    try:
        plan = load_plan(folder)
        if workspace is not None:
            plan = replace(plan, site=replace(plan.site, workspace=str(workspace.absolute())))
        check_available(plan)
        require(plan.stages)
        store = open_store(plan.site)
        student = plan.phases[0].needs["model"]
        options = Options(until=student, workspace=workspace)
        if pending_stages(plan, store, student) and (code := drive([folder], options)):
            return [], code
        for stage in plan.phases:
            verified.append(_prove(plan, store, stage))
            if (failed := verified[-1].failure) is not None:
                own = f"{stage.section}loss"
                console.failure(failed, plan.place(own if own in plan.places else "loss"))
                return verified, failed.exit_code
    except Failure as failure:
        console.failure(failure, None if plan is None else plan.place(failure.spec_path))
        return verified, failure.exit_code
    return verified, 0


def _prove(plan: Plan, store: Store, stage: Stage) -> Verified:
    import torch

    from ..verify.prove import prove
    from ..verify.quick import absurd_weights
    from ..verify.subject import subject_of

    started = time.monotonic()
    torch.set_num_threads(num_cores())
    subject = subject_of(plan, store, stage)

    def report_claim(line: str) -> None:
        if sys.stderr.isatty():
            tell(f"  proving: {line}", err=True)

    proofs = prove(subject, report_claim)
    failure = diagnosis(proofs)
    if failure is not None:
        failure = absurd_weights(subject.objective(), subject.batch()) or failure
    name = plan.name if len(plan.phases) == 1 else f"{plan.name} {stage.id}"
    return Verified(name, proofs, failure, len(subject.rows), time.monotonic() - started)


def table(verified: Verified) -> str:
    """What was proved, by its point, with the largest deviation that was measured and the one allowed."""
    width = max((len(proof.claim) for proof in verified.proofs), default=0)
    numbers = {state: sum(proof.state == state for proof in verified.proofs) for state in WORDS}
    lines = [
        f"{verified.name}: {numbers['proved']} proved, {numbers['failed']} failed, {numbers['exempt']} exempt, on "
        f"{verified.rows} rows in {verified.seconds:.1f} s"
    ]
    for point, proofs in groupby(verified.proofs, key=lambda proof: proof.point):
        lines.append(f"({point}) {POINTS[point][0]}")
        for proof in proofs:
            line = f"  {WORDS[proof.state]:<5}{proof.claim:<{width}}"
            if proof.deviation is not None:
                line += f"  {proof.deviation:7.1e} (at most {proof.tolerance:.0e})"
            lines.append((line + (f"  {proof.note}" if proof.note else "")).rstrip())
    return "\n".join(lines)
