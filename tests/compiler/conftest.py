"""A spec as text -> its plan, on a machine that is always the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from spec_texts import SMALL as SPEC

from distilc.compiler.extensions import extension_record, families
from distilc.compiler.extensions import installed as extensions
from distilc.compiler.pipeline import compile_spec, lower_runs
from distilc.compiler.plan.emit import plan_tree
from distilc.compiler.plan.plan import Plan
from distilc.compiler.resolve.site import Site
from distilc.compiler.spec import structure
from distilc.compiler.spec.experiment import Experiment


@dataclass(frozen=True)
class Lowered:
    """`typed` is None when there were errors, and so is `plan`, which is it as it is written; `codes` are those of all
    diagnostics, in order."""

    typed: Plan | None
    experiment: Experiment
    diagnostics: list[Any]

    @property
    def codes(self) -> list[str]:
        return [diagnostic.code for diagnostic in self.diagnostics]

    @cached_property
    def plan(self) -> Any:
        return None if self.typed is None else plan_tree(self.typed)

    def stage(self, id: str) -> Any:
        return next(stage for stage in self.plan["stages"] if stage["id"] == id)


def make_site(workspace: Path, **changes: Any) -> Site:
    """One CPU with 16 GB, offline, without room for states of a teacher."""
    facts: dict[str, Any] = {
        "workspace": workspace, "shared_stores": (), "offline": True, "models": (), "paths": {}, "device": "cpu",
        "device_name": "test CPU", "nodes": 1, "per_node": 1, "memory_gb": 16.0, "hostfile": None, "zero": "auto",
        "shard_teacher": "auto", "checkpointing": "auto", "offload": "none", "micro_batch_tokens": None,
        "save_minutes": 10.0, "tracking_uri": None,
        "scratch": None, "scratch_limit_gb": 0.0, "scratch_read_gb_per_second": 1.0,
    }  # fmt: skip
    return Site(**{**facts, **changes})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """`install(folder)`: the packages in the folder are installed while the test runs. What a process looks up
    once is looked up again; so it is when they change and `install` is called again."""

    def look_again() -> None:
        remembered = (
            structure.load_schema, extensions.installed, extensions.distributions, families._own,
            extension_record._content,
        )  # fmt: skip
        for function in remembered:
            function.cache_clear()

    def install(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        look_again()

    yield install
    monkeypatch.undo()
    look_again()


@pytest.fixture
def compile_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lowered]:
    """`compile_text(*overrides, text=SPEC, fingerprints=True, **site)`: overrides as in `--set`."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)

    def compile_it(*overrides: str, text: str = SPEC, fingerprints: bool = True, **site: Any) -> Lowered:
        (tmp_path / "spec.yaml").write_text(text, "utf-8")
        where = make_site(site.pop("workspace", tmp_path / "workspace"), **site)
        compiled = compile_spec(tmp_path / "spec.yaml", overrides, where)
        assert compiled.runs, compiled.diagnostics
        plans, after = lower_runs(compiled, where, fingerprints=fingerprints)
        return Lowered(plans[0] if plans else None, compiled.runs[0].experiment, list(after.diagnostics))

    return compile_it
