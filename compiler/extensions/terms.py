"""What the terms of a loss look at, ours and those of packages, from their schema fragments: what has to be computed
for them, the layers of which stacks they compare, and whether kept states of a teacher are enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .built_in import Facts, built_in
from .installed import installed

# What a stage `signals` keeps is enough for these. Of what is not named here nothing is kept: a term that needs it
# has its teacher run at every step.
KEPT = frozenset({"logits", "hidden", "last-state", "teacher", "phi"})


def term_facts(name: str) -> Facts:
    """What is known of a term, ours or a package's; {}: nobody registers it, or its package cannot be used."""
    return built_in("terms").get(name) or installed().facts("terms", name)


def is_built_in(name: str) -> bool:
    """Is a term ours?"""
    return name in built_in("terms")


def weights_of(name: str) -> tuple[str, ...]:
    """The settings of a term that are its weights."""
    return tuple(weight_stacks(name)) or ("weight",)


def weight_stacks(name: str) -> Mapping[str, str]:
    """Of a term that compares layers of single stacks: its weights, and the stack of each."""
    found: Mapping[str, str] = term_facts(name).get("stacks", {})
    return found


def needs_of(name: str) -> frozenset[str]:
    """What has to be computed for a term."""
    return frozenset(term_facts(name).get("needs", ()))


def stacks_of(name: str, settings: Mapping[str, Any]) -> frozenset[str]:
    """The stacks whose layers a term compares. A term with one weight that pairs layers looks at those of both."""
    if "phi" not in needs_of(name):
        return frozenset()
    stacks = weight_stacks(name)
    if not stacks:
        return frozenset({"encoder", "decoder"})
    return frozenset(stack for weight, stack in stacks.items() if settings.get(weight))


def terms_on(objective: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The terms of the `objective` of a stage's settings that are on, with their settings; a number is its weight.
    Where candidates stand for the teacher's logits they were kept before, and that term looks at the student alone."""
    own = objective["own"]
    for name, term in {**{name: objective[name] for name in objective if is_built_in(name)}, **own}.items():
        if term is not None:
            yield name, term if isinstance(term, Mapping) else {"weight": term}


def looks_at_teacher(name: str, settings: Mapping[str, Any]) -> bool:
    """Does a term look at the teacher while the student is trained? Candidates were kept before."""
    return "teacher" in needs_of(name) and settings.get("candidates") is None


def why_computed(name: str, settings: Mapping[str, Any]) -> str | None:
    """Why a teacher that a term looks at has to be run at every step, in words; None: what is kept is enough.
    A term of a package is taken at its word only about what it needs, not about what it makes of it."""
    if not is_built_in(name):
        return "a term of an installed package may look at anything"
    for setting, values in term_facts(name).get("setting_needs", {}).items():
        if (what := values.get(settings.get(setting))) is not None:
            return f"{setting}: {settings[setting]} looks at {what}"
    return None if needs_of(name) <= KEPT else f"the term {name} looks at more than states"
