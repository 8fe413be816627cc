"""What the terms of a loss look at: read from their schema fragments, and in one place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from distilc.compiler.extensions import terms
from distilc.compiler.extensions.built_in import built_in
from distilc.compiler.extensions.terms import KEPT, why_computed
from distilc.compiler.plan.signals import why_not_kept

ROOT = Path(__file__).parents[2]
ROOM = {"scratch_limit_gb": 1000.0, "scratch_read_gb_per_second": 1e6}


@pytest.mark.parametrize("need", ["attention", "embeddings", "whatever-comes-next"])
def test_a_term_that_needs_what_is_not_kept_has_its_teacher_run(
    compile_text: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, need: str
) -> None:
    """By what it declares alone: there is no list of terms to forget."""
    facts = {**built_in("terms"), "cosine": {**built_in("terms")["cosine"], "needs": ["last-state", "teacher"]}}
    monkeypatch.setattr(terms, "built_in", lambda kind: facts)
    plan = compile_text("loss={labels: 1, cosine: 1.0}", **ROOM).typed
    assert why_not_kept(plan, "decoder") is None
    facts["cosine"]["needs"].append(need)
    plan = compile_text("loss={labels: 1, cosine: 1.0}", **ROOM).typed
    assert why_not_kept(plan, "decoder") == "the term cosine looks at more than states"
    assert "signals-decoder" not in plan.stages


def test_a_term_that_nobody_describes_is_not_trusted() -> None:
    assert why_computed("nobody-s", {"weight": 1.0}) is not None


def test_only_what_a_term_can_declare_is_kept() -> None:
    schema = json.loads((ROOT / "schema" / "extension.schema.json").read_text("utf-8"))
    assert set(schema["$defs"]["term"]["properties"]["needs"]["items"]["enum"]) >= KEPT


@pytest.mark.parametrize("name", built_in("terms"))
def test_what_a_fragment_says_of_settings_is_said_of_settings_that_there_are(name: str) -> None:
    facts: Mapping[str, Any] = built_in("terms")[name]
    settings = facts["properties"]
    assert set(facts.get("stacks", {"weight": ""})) <= set(settings)
    assert set(facts.get("optional", ())) <= set(settings)
    for setting, values in facts.get("setting_needs", {}).items():
        assert set(values) < set(settings[setting]["enum"])
