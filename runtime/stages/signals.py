"""The `signals` stage: a teacher and token rows -> one side of its states, or its candidates, for every row."""

from __future__ import annotations

import shutil
from typing import Any

from ..data.rows import Rows
from ..execution.context import Context
from ..failure import Failure
from ..models.forward import first_stack_digest
from ..models.load import DTYPES, load_model, load_tokenizer, model_folder
from ..plan.plan import Stage
from ..plan.settings import SignalsSettings
from ..protocol import StageKind
from ..signals.fill import Filling
from ..signals.read import Signals


def run(stage: Stage, context: Context) -> dict[str, Any]:
    """Every rank computes its share of the shards; resumes with those that are not on the disk yet.

    Raises `Failure` R334: the disk has no room for it."""
    settings: SignalsSettings = stage.settings
    folder = model_folder(context.inputs["model"])
    # As a training has its teacher: loaded in fp32, then cast.
    model = load_model(folder, precision="fp32")
    digest = first_stack_digest(model)
    model = model.to(DTYPES[settings.precision]).to(context.device)
    rows = Rows.open(context.inputs["data"], "train")
    kept = context.inputs.get("signals.encoder")
    filling = Filling(
        model,
        rows,
        settings,
        context,
        pad_id=load_tokenizer(folder).pad_token_id,
        encoder=digest,
        encoder_signals=None if kept is None else Signals({"encoder": kept}, rows),
    )
    _require_room(filling, context)
    num_bytes = filling.run()
    states = len(set(filling.files.values()))
    tokens = int(filling.offsets[-1])
    what = f"{states} x {tokens:,} states of the {settings.side}"
    if settings.candidates is not None:
        what = f"{settings.candidates.number} candidates ({settings.candidates.kind}) for {tokens:,} tokens"
    return {
        "side": settings.side,
        "states": states,
        "rows": len(rows),
        "tokens": tokens,
        "bytes": num_bytes,
        "line": f"{what}, {num_bytes / 1e9:,.2f} GB",
    }


def _require_room(filling: Filling, context: Context) -> None:
    needed = int(filling.offsets[-1]) * filling.token_bytes
    present = sum(file.stat().st_blocks * 512 for file in context.folder.glob("*.npy"))
    free = shutil.disk_usage(context.folder).free + present
    if needed > free:
        what, less = f"states of the {filling.settings.side}", "allow less: `scratch: {limit_gb: N}`"
        if filling.settings.candidates is not None:  # the spec asks for them: no limit of the site leaves them out
            what, less = "candidates", "write `loss.logits.candidates: all`, or fewer candidates"
        raise Failure(
            "R334",
            f"the {what} take {needed / 1e9:,.1f} GB, and {context.folder} has room for {free / 1e9:,.1f}",
            f"name another disk in the site file, `scratch: {{path: FOLDER}}`, or {less}",
        )


SIGNALS = StageKind(run=run, parallel=True)
