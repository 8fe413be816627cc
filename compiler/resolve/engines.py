"""Which engine writes a model's texts, and in which type it calculates: decided here, because results depend on it.

`auto` takes ctranslate2 where it supports the family and all settings, and gives what transformers gives. What a
spec leaves to a checkpoint is not known here; the runtime looks at that, and takes transformers where the two
would differ. An engine that is named has its own way.
"""

from __future__ import annotations

from typing import Any

from ..diagnostics.record import record
from ..extensions.families import FAMILIES
from ..spec.experiment import Generation
from .site import Site

ON_CPU = ("fp32", "int8")  # types of ctranslate2 there
ONNX_TYPES = ("fp32", "int8")


@record
class Engine:
    """`compute_type` None: as the precision says (transformers). `named`: asked for by name."""

    name: str
    compute_type: str | None = None
    named: bool = False


TRANSFORMERS = Engine("transformers")


def choose_engine(generation: Generation, family: str, precision: str, site: Site) -> Engine:
    """The engine for texts of a model of this family."""
    if why_transformers(generation, family, precision, site):
        return TRANSFORMERS
    return Engine("ctranslate2", generation.compute_type or precision, _is_named(generation, site))


def why_transformers(generation: Generation, family: str, precision: str, site: Site) -> str:
    """Why transformers writes the texts of a model of this family; "": it is ctranslate2 that does."""
    if wanted_engine(generation, site) == "transformers":
        return "the spec asks for it" if generation.engine == "transformers" else "the site asks for it"
    if _is_named(generation, site):
        return ""
    if (found := lacking(generation, family, generation.compute_type or precision, site)) is not None:
        return f"ctranslate2 {found[1]}"
    if (own := own_way(generation)) is not None:
        return f"ctranslate2 treats {own[0]} differently"
    return ""


def engine_settings(generation: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """The generation settings of a stage with its engine. What is off is left out."""
    return {
        **generation,
        "engine": engine.name,
        **({} if engine.compute_type is None else {"compute_type": engine.compute_type}),
        **({"named": True} if engine.named else {}),
    }


def wanted_engine(generation: Generation, site: Site) -> str:
    spec = generation.engine or "auto"
    return site.engine if spec == "auto" else spec


def _is_named(generation: Generation, site: Site) -> bool:
    """Is ctranslate2 asked for, by its name or by a type that only it calculates in?"""
    return wanted_engine(generation, site) == "ctranslate2" or generation.compute_type is not None


def lacking(generation: Generation, family: str, compute_type: str, site: Site) -> tuple[str, str] | None:
    """(what is asked for, why ctranslate2 cannot do it)."""
    if family not in FAMILIES or not FAMILIES[family].convertible:
        return "engine", f"does not support the family {family}"
    if generation.sampling is not None:
        return "sampling", "has no sampling that is independent of how rows are divided among processes"
    if compute_type == "fp16" and not FAMILIES[family].fp16_safe:
        return "compute_type", f"overflows in fp16 with {family} models"
    if site.device == "cpu" and compute_type not in ON_CPU:
        return "compute_type", f"does not support {compute_type} on a CPU"
    return None


def own_way(generation: Generation) -> tuple[str, str] | None:
    """(setting, what ctranslate2 makes of it) where that is not what transformers makes of it: as
    runtime/generation/fit.py, on what the spec says."""
    if generation.min_length is not None and generation.min_length > 1:
        return "min_length", "it normalises the scores of the other tokens without the end token"
    if generation.no_repeat_ngram:
        return "no_repeat_ngram", "it normalises the scores of the other tokens without the forbidden ones"
    if (generation.beams or 1) == 1:
        return None
    if generation.early_stopping is False and generation.length_penalty != 0:
        return "early_stopping", "it ends a search as soon as `beams` texts are complete"
    return None
