"""The terms of a plan: which are on, with their settings and weights."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..available import COMPUTED
from ..extensions import Entry, Registry, blamed, entry_of
from ..failure import Failure
from ..plan.settings import ObjectiveSettings
from ..protocol import Items, Term, TermInputs
from .divergence import LOGITS_EVERYWHERE, LOGITS_OF_CANDIDATES

TERMS: Registry[Term | tuple[Term, ...]] = Registry("terms", Term)


# The numbers that change, as they are now: term -> setting -> value. Empty until somebody says which step it is.
Now = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Active:
    """A term that is on, or a part of one with a weight of its own. `path`: of its weight in the loss; `settings`: as
    they are at the step; `items`: what its mean is over, in the model at hand."""

    name: str
    path: str
    term: Term
    settings: Mapping[str, Any]
    entry: Entry
    items: Items

    @property
    def weight(self) -> float:
        return float(self.settings[self.term.weight])

    def sum(self, inputs: TermInputs) -> Tensor:
        """The term's sum over its items; scalar. Raises `Failure` R108: a package's term went wrong."""
        with blamed(self.entry):
            value = self.term.sum(inputs, self.settings)
            if not isinstance(value, Tensor) or value.dim() or not torch.is_floating_point(value):
                raise TypeError("it must give a scalar tensor of a float type")
        return value


def assemble(
    settings: ObjectiveSettings, now: Now | None = None, items: Callable[[Term], Items] = lambda term: term.items
) -> tuple[Active, ...]:
    """The terms that are on, ours before those of installed packages. A term with a number that changes has it from
    `now`, which gets an entry for it, and what stands in the plan where `now` does not say. `items`: of a term, in the
    model at hand.

    Raises `Failure` R305: a term that nobody registers, or that looks at what is not computed.
    """
    now = {} if now is None else now
    now.update({scheduled_setting(path)[0]: {} for path in settings.schedules})
    found: list[Active] = []
    for name, value in settings.terms.items():
        plain = _plain(value)
        live = ChainMap(now[name], dict(plain)) if name in now else plain
        found += _active(name, live, alone=isinstance(value, int | float))
    if settings.logits is not None and settings.logits.candidates is not None:
        found = [replace(one, term=LOGITS_OF_CANDIDATES) if one.name == "logits" else one for one in found]
    if everywhere(settings):
        found = [replace(one, term=LOGITS_EVERYWHERE) if one.name == "logits" else one for one in found]
    return tuple(replace(one, items=items(one.term)) for one in found)


def everywhere(settings: ObjectiveSettings) -> bool:
    """Are logits compared at every position that counts, where a label stands and where none does?"""
    return settings.logits is not None and settings.logits.positions == "all"


def scheduled_setting(path: str) -> tuple[str, str]:
    """(term, setting) of a path in the loss; of a term that is a number alone that is its weight."""
    name, _, setting = path.partition(".")
    return name, setting or "weight"


def _plain(value: Any) -> Mapping[str, Any]:
    """A term's settings as a mapping; a number is its weight."""
    if isinstance(value, Mapping):
        return value
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else {"weight": value}


def _active(name: str, settings: Mapping[str, Any], *, alone: bool) -> Iterator[Active]:
    """`alone`: the spec has a number there."""
    if name not in TERMS:
        raise Failure("R305", f"there is no loss term {name} in this release", "remove it", spec_path=f"loss.{name}")
    found = TERMS[name]
    parts = found if isinstance(found, tuple) else (found,)
    for term in parts:
        if missing := sorted(term.needs - COMPUTED):
            raise Failure(
                "R305",
                f"the loss term {name} looks at {', '.join(missing)}, which this release does not compute for a term",
                "remove it",
                spec_path=f"loss.{name}",
            )
        if settings[term.weight]:
            label = name if len(parts) == 1 else f"{name}_{term.weight}"
            path = name if alone else f"{name}.{term.weight}"
            yield Active(label, path, term, settings, entry_of("terms", name), term.items)
