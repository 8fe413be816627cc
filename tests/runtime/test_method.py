"""What acts on a student before each step: ours and an example, their resumption, and the plain student that is left."""

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
from distilc.runtime.failure import Failure
from distilc.runtime.models.families import layers
from distilc.runtime.models.load import load_model
from distilc.runtime.models.save import save_model
from distilc.runtime.objective.objective import Objective
from distilc.runtime.plan.settings import (
    LabelsTerm,
    MethodSettings,
    Moment,
    ObjectiveSettings,
    Schedule,
    StoppingSettings,
)
from distilc.runtime.protocol import Method
from distilc.runtime.training.layer_drop import LayerDrop
from distilc.runtime.training.method import METHODS, method_of, states_of
from distilc.runtime.training.step import Training, train_step
from distilc.runtime.training.step_schedule import Step
from distilc.runtime.training.stopping import Stopping
from distilc.runtime.training.theseus import Theseus, groups
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

    def before_step(self, step: int) -> None:
        drawn = np.random.default_rng([self.seed, self.num_draws]).random(self.depth)
        self.num_draws += 1
        self.dropped = {*np.flatnonzero(drawn < self.probability * (1 - step / 12)).tolist()}
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


def training_of(model: Any, rows: Rows, methods: tuple[Method, ...], teacher: Any = None) -> Training:
    """As the loop prepares one, on an engine of this process."""
    objective = Objective(model, SETTINGS, ())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for method in methods:
        method.begin(objective.student, teacher)
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


# --- ours ------------------------------------------------------------------------------------------


def ours(name: str, settings: dict[str, Any], schedules: dict[str, Schedule] | None = None, seed: int = 3) -> Method:
    found = MethodSettings(name=name, settings=settings, schedules=schedules or {})
    return method_of(found, seed, num_steps=6, steps_in=lambda epochs: round(3 * epochs))


def frozen_teacher(folder: Path) -> Any:
    return load_model(folder).eval().requires_grad_(False)


def after(folder: Path, rows: Rows, methods: tuple[Method, ...], teacher: Any = None) -> nn.Module:
    """The student after six steps."""
    training = training_of(load_model(folder), rows, methods, teacher)
    run(training, 1, 6)
    student: nn.Module = training.objective.student
    return student


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_what_changes_nothing_is_a_plain_training(family: str, tiny_model_folder: Any, rows: Rows) -> None:
    """Step for step: Theseus with the probability 1 and LayerDrop with the rate 0."""
    teacher, folder = frozen_teacher(tiny_model_folder(family, 2, 4)), tiny_model_folder(family, 2, 2)
    plain = after(folder, rows, ())
    assert same(after(folder, rows, (ours("theseus", {"probability": 1.0}),), teacher), plain)
    assert same(after(folder, rows, (ours("layer_drop", {"rate": 0.0}),)), plain)
    assert not same(after(folder, rows, (ours("theseus", {"probability": 0.5}),), teacher), plain)
    assert not same(after(folder, rows, (ours("layer_drop", {"rate": 0.5}),)), plain)


def test_what_is_not_run_has_a_gradient_of_zero(tiny_model_folder: Any, rows: Rows) -> None:
    """Without one a sharded optimizer would step with the last one that there was."""
    teacher, folder = frozen_teacher(tiny_model_folder("marian", 2, 4)), tiny_model_folder("marian", 2, 2)
    method = ours("theseus", {"probability": 0.5})
    assert isinstance(method, Theseus)
    training = training_of(load_model(folder), rows, (method,), teacher)
    seen = set()
    for step in range(1, 7):
        run(training, step, step)
        kept = method.kept["decoder"]
        assert "encoder" not in method.kept  # as deep as the teacher's: the student's own throughout
        for index, layer in enumerate(layers(training.objective.student, "decoder")):
            gradients = [parameter.grad for parameter in layer.parameters()]
            assert all(gradient is not None for gradient in gradients)
            assert any(bool(gradient.any()) for gradient in gradients) == (index not in kept)
        for index, layer in enumerate(layers(training.objective.student, "encoder")):
            assert any(bool(parameter.grad.any()) for parameter in layer.parameters()), index
        seen.add(kept)
    assert len(seen) > 1
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert same(teacher, load_model(tiny_model_folder("marian", 2, 4)))


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_a_group_stands_for_its_layer(family: str, tiny_model_folder: Any) -> None:
    """A student of a teacher's first layers, all of whose modules are the teacher's, computes what the teacher does."""
    teacher, student = frozen_teacher(tiny_model_folder(family, 4, 4)), load_model(tiny_model_folder(family, 2, 2))
    theirs = teacher.state_dict()
    student.load_state_dict({name: theirs[name] for name in student.state_dict()})
    method = ours("theseus", {"probability": 1e-9})
    method.begin(student, teacher)
    method.before_step(1)
    student.eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    inputs = {"input_ids": ids, "decoder_input_ids": ids, "use_cache": False}
    with torch.no_grad():
        expected = teacher(**inputs).logits
        torch.testing.assert_close(student(**inputs).logits, expected, rtol=0, atol=0)
        with method.plain():
            assert not torch.equal(student(**inputs).logits, expected)
        torch.testing.assert_close(student(**inputs).logits, expected, rtol=0, atol=0)


def test_groups_are_even_and_leave_nothing_out() -> None:
    assert groups(3, 6) == [range(0, 2), range(2, 4), range(4, 6)]
    assert groups(4, 6) == [range(0, 1), range(1, 3), range(3, 4), range(4, 6)]
    for own in range(1, 12):
        found = groups(own, 12)
        assert [layer for group in found for layer in group] == list(range(12))
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_draws_come_as_often_as_they_should(tiny_model_folder: Any) -> None:
    drop, theseus = ours("layer_drop", {"rate": 0.3}), ours("theseus", {"probability": 0.3})
    assert isinstance(drop, LayerDrop) and isinstance(theseus, Theseus)
    drop.begin(load_model(tiny_model_folder("bart", 2, 4)), None)
    theseus.begin(load_model(tiny_model_folder("bart", 1, 2)), frozen_teacher(tiny_model_folder("bart", 2, 4)))
    dropped, replaced, number = 0, 0, 4_000
    pairs = 0
    for step in range(1, number + 1):
        drop.before_step(step)
        theseus.before_step(step)
        dropped += sum(map(len, drop.dropped.values()))
        replaced += 3 - sum(map(len, theseus.kept.values()))
        pairs += {0, 1} <= drop.dropped["decoder"]
    # Within four standard deviations; two layers are drawn apart.
    assert dropped / (6 * number) == pytest.approx(0.3, abs=4 * (0.21 / (6 * number)) ** 0.5)
    assert replaced / (3 * number) == pytest.approx(0.3, abs=4 * (0.21 / (3 * number)) ** 0.5)
    assert pairs / number == pytest.approx(0.09, abs=4 * (0.09 * 0.91 / number) ** 0.5)


def test_a_probability_that_grows_ends_with_the_student_alone(tiny_model_folder: Any) -> None:
    start, half = (Moment(epochs=None, steps=steps, ratio=ratio) for steps, ratio in ((0, None), (None, 0.5)))
    growing = Schedule(initial=1e-9, final=1.0, shape="linear", begin=start, end=half)
    method = ours("theseus", {"probability": 1.0}, {"probability": growing})
    assert isinstance(method, Theseus)
    method.begin(load_model(tiny_model_folder("bart", 2, 2)), frozen_teacher(tiny_model_folder("bart", 2, 4)))
    method.before_step(0)
    assert method.kept == {"decoder": {0, 1}}
    for step in (3, 4, 5, 6):
        method.before_step(step)
        assert method.kept == {"decoder": frozenset()}


@pytest.mark.parametrize("name, settings", [("theseus", {"probability": 0.5}), ("layer_drop", {"rate": 0.5})])
def test_ours_go_on_as_if_nothing_had_been(
    name: str, settings: dict[str, Any], tiny_model_folder: Any, rows: Rows, tmp_path: Path
) -> None:
    teacher, folder = frozen_teacher(tiny_model_folder("bart", 2, 4)), tiny_model_folder("bart", 2, 2)
    whole = after(folder, rows, (ours(name, settings),), teacher)
    begun = training_of(load_model(folder), rows, (ours(name, settings),), teacher)
    run(begun, 1, 3)
    save_model(begun.objective.student, tmp_path / "checkpoint", tokenizer=folder)
    resumed = training_of(load_model(tmp_path / "checkpoint"), rows, (ours(name, settings),), teacher)
    resumed.load_state(begun.state())
    run(resumed, 4, 6)
    assert same(resumed.objective.student, whole)
    assert set(load_model(folder).state_dict()) == set(whole.state_dict())  # the teacher's layers are no part of it


def test_frozen_layers_are_run_always(tiny_model_folder: Any) -> None:
    student = load_model(tiny_model_folder("bart", 2, 2))
    for parameter in layers(student, "encoder").parameters():
        parameter.requires_grad_(False)
    drop = ours("layer_drop", {"rate": 0.9})
    assert isinstance(drop, LayerDrop)
    drop.begin(student, None)
    drop.before_step(1)
    states = torch.randn(1, 3, student.config.d_model)
    for index, layer in enumerate(layers(student, "encoder")):
        assert not torch.equal(states_of(layer(states, None)), states), index


def test_a_name_that_nobody_registers_is_told() -> None:
    assert {*METHODS} >= {"layer_drop", "theseus"}
    with pytest.raises(Failure) as caught:
        ours("theseos", {})
    assert (caught.value.code, caught.value.spec_path) == ("R359", "training.method")
