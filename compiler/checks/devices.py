"""Rules about the devices of a site: precisions, ZeRO stages, offloading."""

from __future__ import annotations

from ..diagnostics.diagnostic import Reporter, Trail
from ..extensions.families import FAMILIES
from ..resolve.run import has_bf16
from ..resolve.site import Site
from ..spec.experiment import Training
from .context import ModelContext, SiteContext


def check_precision(models: ModelContext) -> None:
    """Reports E511 (fp16 with a family that overflows), E512 (a precision that the device has not), E516 (16 bits
    without ZeRO), E596 (adafactor with ZeRO)."""
    run, family = models.run, models.teacher.architecture.family
    _check_training(run.training, models.precision, (), family, models.reporter, models.site)
    if run.teacher.train is not None:
        path, precision = ("teacher", "train"), models.teacher_precision
        _check_training(run.teacher.train, precision, path, family, models.reporter, models.site)


def _check_training(
    training: Training, precision: str, path: Trail, family: str, reporter: Reporter, site: Site
) -> None:
    """`path`: where the training's section is."""
    adafactor, here = training.optimization.optimizer.name == "adafactor", (*path, "precision")
    if adafactor and (precision != "fp32" or site.zero not in ("auto", 0)):
        sharing = f"the site says {site.zero}" if precision == "fp32" else f"{precision} needs 1 or more"
        reporter.error(
            "E596",
            (*path, "training", "optimizer", "name"),
            f"adafactor needs ZeRO stage 0, and {sharing}: from stage 1 on it would see shards of flattened weights, "
            "without their rows and columns, and the result would depend on the number of devices",
            "choose adamw, or write "
            + ("`precision: fp32`" if precision != "fp32" else "`zero: auto` into the site file"),
            because=[here] if precision != "fp32" else [],
        )
    if precision != "fp32" and site.zero == 0:
        # Measured: under stage 0 the losses of a bf16 run leave those of fp32 at the first clipped update,
        # under stages 1 to 3 they follow them.
        reporter.error(
            "E516",
            here,
            f"{precision} needs ZeRO stage 1 or more, the site says 0: without it DeepSpeed accumulates in 16 bits",
            "write `zero: auto` into the site file, or choose fp32",
        )
    if precision == "fp16" and not FAMILIES[family].fp16_safe:
        reporter.error("E511", here, f"fp16 overflows in {family} models: the loss becomes NaN", "choose bf16 or fp32")
    elif precision == "fp16" and site.device == "cpu":
        reporter.error("E512", here, "fp16 needs a GPU; this site has none", "choose bf16 or fp32, or auto")
    elif precision == "bf16" and site.device == "cuda" and not has_bf16(site):
        reporter.error("E512", here, f"{site.device_name} does not support bf16", "choose fp32, or auto")


def check_offload(context: SiteContext) -> None:
    """Reports E514: an offload that this device, ZeRO stage or optimizer does not go with. These are the
    site's words, so they have no place in the spec."""
    run, reporter, site = context
    if site.offload == "none":
        return
    least = 3 if site.offload == "parameters" else 1
    if site.device == "cpu":
        reporter.error(
            "E514",
            (),
            f"offload: {site.offload} moves from a GPU's memory to the host's; this site has no GPU",
            "remove `offload` from the site file",
        )
    elif site.zero != "auto" and site.zero < least:
        reporter.error(
            "E514",
            (),
            f"offload: {site.offload} needs ZeRO stage {least} or more, the site says {site.zero}",
            "write `zero: auto` into the site file",
        )
    for path, training in (
        (("training",), run.training),
        (("teacher", "train", "training"), run.teacher.train),
    ):
        if training is not None and training.optimization.optimizer.name == "adafactor":
            reporter.error(
                "E514",
                (*path, "optimizer", "name"),
                "an offloaded optimizer is DeepSpeed's CPU Adam, and this one is adafactor",
                "choose adamw, or remove `offload` from the site file",
            )
