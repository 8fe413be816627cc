"""What is wrong with a loss is told where the spec has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.failure import Failure
from distilc.runtime.objective import build


@pytest.mark.parametrize("section", ["", "teacher.train."])
def test_a_loss_that_cannot_be_built_is_told_in_its_section(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    def refuse(*_: Any) -> None:
        raise Failure("R305", "there is no loss term odd", spec_path="loss.odd")

    monkeypatch.setattr(build, "Objective", refuse)
    monkeypatch.setattr(build, "load_model", lambda *_, **__: None)
    monkeypatch.setattr(build, "model_folder", lambda folder: folder)
    monkeypatch.setattr(build, "freeze", lambda *_: None)
    settings: Any = SimpleNamespace(task="summarization", dropout=None, freeze=(), seed=0, objective=None)
    with pytest.raises(Failure) as caught:
        build.objective_of(settings, {"model": Path("model")}, "cpu", section)
    assert caught.value.spec_path == f"{section}loss.odd"
