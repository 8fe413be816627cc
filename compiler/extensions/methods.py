"""The ways to train that a spec may name under `training.method`, ours and those of packages, from their schema
fragments."""

from __future__ import annotations

from .built_in import Facts, built_in
from .installed import installed


def method_facts(name: str) -> Facts:
    """What is known of a way to train; {}: nobody registers it, or its package cannot be used."""
    return built_in("methods").get(name) or installed().facts("methods", name)


def method_needs_teacher(name: str) -> bool:
    """Does it look at the teacher while the student is trained?"""
    return "teacher" in method_facts(name).get("needs", ())
