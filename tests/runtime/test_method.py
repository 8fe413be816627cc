"""What acts on a student before each step: an example, its resumption, and the plain student that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.models.families import layers
from distilc.runtime.models.load import load_model
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective
from distilc.runtime.plan import LabelsTerm, ObjectiveSettings, StoppingSettings
from distilc.runtime.training.method import Method
from distilc.runtime.training.step import Training, train_step
from distilc.runtime.training.step_schedule import Step
from distilc.runtime.training.stopping import Stopping
from distilc.runtime.verify.step import LocalEngine

OFF: dict[str, Any] = dict.fromkeys(("logits", "hidden", "attention", "cosine", "embedding", "phi"))
SETTINGS = ObjectiveSettings(labels=LabelsTerm(weight=1.0, smoothing=0.0), own={}, **OFF)
STOPPING = StoppingSettings(
    max_epochs=None, max_steps=6, max_hours=None, patience=None, monitor="loss", min_delta=0.0, retention=None
)  # fmt: skip


class DropLayers:
    """Decoder layers are passed over, each with this probability, more and more rarely (LayerDrop, with a schedule).
    Draws are counted: `state` says how many there were."""

    def __init__(self, probability: float, seed: int) -> None:
        self.probability, self.seed, self.num_draws = probability, seed, 0
        self.dropped: set[int] = set()
        self.history: list[set[int]] = []

    def begin(self, student: nn.Module, teacher: nn.Module | None) -> None:
        self.depth = len(layers(student, "decoder"))
        for index, layer in enumerate(layers(student, "decoder")):
            layer.register_forward_hook(self._passing_over(index), with_kwargs=True)

    def _passing_over(self, index: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
            if index not in self.dropped:
                return output
            states = arguments[0] if arguments else named["hidden_states"]
            return states if isinstance(output, torch.Tensor) else (states, *output[1:])

        return hook

    def before_step(self, step: int, num_steps: int) -> None:
        drawn = np.random.default_rng([self.seed, self.num_draws]).random(self.depth)
        self.num_draws += 1
        self.dropped = {*np.flatnonzero(drawn < self.probability * (1 - step / (2 * num_steps))).tolist()}
        self.history.append(self.dropped)

    def state(self) -> dict[str, Any]:
        return {"num_draws": self.num_draws}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.num_draws = state["num_draws"]

    @contextmanager
    def plain(self) -> Iterator[None]:
        before, self.dropped = self.dropped, set()
        try:
            yield
        finally:
            self.dropped = before


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    random = np.random.default_rng(7)
    made = [(random.integers(5, 40, 6).tolist(), random.integers(5, 40, 4).tolist(), {"id": str(i)}) for i in range(8)]
    write_rows(tmp_path, "train", iter(made))
    return Rows.open(tmp_path, "train")


def training_of(model: Any, rows: Rows, methods: tuple[Method, ...]) -> Training:
    """As the loop prepares one, on an engine of this process."""
    objective = Objective(model, SETTINGS, ())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for method in methods:
        method.begin(objective.student, None)
    settings: Any = SimpleNamespace(seed=3, task="summarization")
    context: Any = SimpleNamespace(world=1, rank=0)
    step_schedule: Any = SimpleNamespace(num_steps=6, learning_rate=lambda step: 0.1, scheduled=lambda step: {})
    return Training(
        settings=settings, context=context, objective=objective, engine=LocalEngine(objective, optimizer, updates=True),
        source=Path(), tokenizer=SimpleNamespace(pad_token_id=1), rows=rows, validation_rows=rows, step_schedule=step_schedule,
        stopping=Stopping(STOPPING, {}, 6), micro_batch_tokens=1 << 20, signals=None, methods=methods,
    )  # fmt: skip


def run(training: Training, first: int, last: int) -> None:
    record: Any = SimpleNamespace(add=lambda step, terms: None)
    for number in range(first, last + 1):
        for parameter in training.objective.parameters():
            parameter.grad = None
        train_step(training, Step(number, 0, np.arange(8), 0.0, False), record)


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_it_acts_is_resumed_and_ends_with_a_plain_student(tiny_model_folder: Any, rows: Rows, tmp_path: Path) -> None:
    folder = tiny_model_folder("bart", 2, 3)
    method = DropLayers(0.6, seed=5)
    whole = training_of(load_model(folder), rows, (method,))
    run(whole, 1, 6)
    assert set() in method.history or len({*map(frozenset, method.history)}) > 1  # it does not do the same each time
    plain = training_of(load_model(folder), rows, ())
    run(plain, 1, 6)
    assert not same(whole.objective.student, plain.objective.student)

    # Interrupted after the third step: what a checkpoint keeps is enough to go on as if nothing had been.
    begun = training_of(load_model(folder), rows, (DropLayers(0.6, seed=5),))
    run(begun, 1, 3)
    save_model(begun.objective.student, tmp_path / "checkpoint", tokenizer=folder)
    resumed = training_of(load_model(tmp_path / "checkpoint"), rows, (DropLayers(0.6, seed=5),))
    resumed.load_state(begun.state())
    run(resumed, 4, 6)
    assert same(resumed.objective.student, whole.objective.student)

    # A step that passes layers over is another function; what is validated and saved is a plain model.
    student = whole.objective.student.eval()
    method.dropped = {0, 1}
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[8, 9]])}
    with torch.no_grad():
        in_step = student(**inputs).logits
        with whole.plain_student():
            logits = student(**inputs).logits
            save_model(student, tmp_path / "student", tokenizer=folder)
        assert not torch.equal(in_step, logits)
        assert torch.equal(load_model(tmp_path / "student")(**inputs).logits, logits)
