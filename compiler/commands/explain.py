"""`distilc explain`: what a spec will do, what made a stage new, what a code means."""

from __future__ import annotations

import json
import re
import sys
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..diagnostics.diagnostic import did_you_mean
from .options import ONLY, site_of, spec_options
from .output import has_color, leave, show, tell
from .plans import chosen_runs, lowered

if TYPE_CHECKING:
    from ..plan.plan import Plan


@click.command()
@click.argument("subject", metavar="SPEC|CODE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--resolved", is_flag=True, help="The spec with every default filled in, as YAML, one document a run.")
@click.option("--why", metavar="STAGE", help="Which input made this stage differ from the nearest stored one.")
@ONLY
@spec_options
def explain(
    subject: str, as_json: bool, resolved: bool, why: str | None, only: tuple[str, ...], overrides: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """What a SPEC will do, or what a diagnostic CODE means. Nothing is run.

    \b
    Example:  distilc explain spec.yaml
              distilc explain --resolved --only kd spec.yaml
              distilc explain --why train spec.yaml
              distilc explain E206

    For a spec: models and parameters, which layers are copied and which are supervised, the stages with
    their keys and what the store has of them already, memory and time.

    --why follows what a stage needs to the setting or the input that is other than in the store.

    The codes of a run that failed (R###) are explained where they are told.

    Exit codes: 0 fine, 1 the spec is wrong or has no such run or stage, 2 wrong usage or no such code.
    """
    if re.fullmatch(r"[A-Za-z]\d{3}", subject) and not isfile(subject):
        tell(_explain_code(subject.upper()))
        return
    if resolved and (as_json or why is not None):
        raise click.UsageError("--resolved prints a spec, and goes with neither --json nor --why")
    site = site_of(**options)
    compiled = chosen_runs(Path(subject), overrides, site, only)
    if resolved:
        from ..spec.resolved import resolved_yaml

        show(compiled.diagnostics, compiled.texts)
        if compiled.failed:
            sys.exit(1)
        tell("---\n".join(map(resolved_yaml, compiled.runs)))
        return
    plans = lowered(compiled, site)
    if why is not None:
        _explain_why(plans, why, as_json)
        return
    from ..explain.explain import explain_json, explain_texts

    if as_json:
        tell(json.dumps(explain_json(plans), indent=2, allow_nan=False) + "\n")
    else:
        color = has_color(sys.stdout)
        tell(explain_texts(plans, color=color), color=color)


def _explain_why(plans: list[Plan], stage: str, as_json: bool) -> None:
    from ..diagnostics.diagnostic import Places, Reporter
    from ..explain.why import explain_why, why_json, why_text

    reporter = Reporter(Places())
    found = explain_why(plans, stage, reporter)
    if reporter.failed:
        leave(reporter.diagnostics, {"--why": stage})
    if as_json:
        tell(json.dumps(why_json(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        tell("\n".join(map(why_text, found)))


def _explain_code(code: str) -> str:
    from ..diagnostics.codes import CODES

    if code.startswith("R"):
        return (
            f"{code}: R codes are told by `distilc run` itself. The message beside the code says what failed, its\n"
            "hint what to do, and the log of the run has the rest. `explain` knows the codes of E and W.\n"
        )
    if code not in CODES:
        near = did_you_mean(code, CODES)
        raise click.UsageError(f"there is no code {code}" + (f" (did you mean {near}?)" if near else ""))
    entry = CODES[code]

    def example(title: str, text: str) -> str:
        return f"\n{title}\n" + "".join(f"    {line}\n" for line in text.rstrip("\n").split("\n"))

    return (
        f"{code}: {entry.title}\n\n{entry.meaning}\n"
        + example("Incorrect:", entry.incorrect)
        + example("Corrected:", entry.corrected)
    )
