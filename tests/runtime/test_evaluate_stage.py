"""The stages `evaluate` and `benchmark` on tiny models."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distilc.runtime.data.rows import Rows, write_rows
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.failure import Failure
from distilc.runtime.generation import engine, shards, speed
from distilc.runtime.messages.notices import FILE, Notices, read_notices
from distilc.runtime.metrics.score import score
from distilc.runtime.models.families import count_parameters
from distilc.runtime.models.load import load_model, load_tokenizer
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import BenchmarkSettings, EvaluateSettings, GenerationSettings
from distilc.runtime.stages import benchmark, evaluate
from distilc.runtime.tasks import written
from distilc.runtime.tasks.seq2seq import below_baseline
from distilc.runtime.tracking import content

GENERATION = GenerationSettings(
    engine="transformers", beams=1, length_penalty=None, min_length=None, max_length=12, no_repeat_ngram=None,
    early_stopping=None,
)  # fmt: skip
SUMMARIES = [
    ("Rain fell on the town. The school stayed shut.", "rain closed the school"),
    ("The team won. It was a full ground.", "the team won the final"),
    ("Prices of bread rose. Milk rose by four percent. The office said so in march.", "bread and milk cost more"),
    ("A museum opened. Letters are shown.", "the museum shows letters"),
    ("Doctors warned.", "a fever spreads"),
]


@pytest.fixture
def artifacts(tmp_path: Path, tiny_model_folder: Any) -> Callable[..., dict[str, Path]]:
    def make(family: str = "marian", splits: tuple[str, ...] = ("test.test",)) -> dict[str, Path]:
        model = Path(tiny_model_folder(family))
        tokenizer = load_tokenizer(model)
        data = tmp_path / "data"
        data.mkdir()
        for split in splits:
            write_rows(data, split, [
                (tokenizer(source)["input_ids"], tokenizer(text_target=target)["input_ids"],
                 {"id": f"{split}-{i}", "source": source, "target": target})
                for i, (source, target) in enumerate(SUMMARIES)
            ])  # fmt: skip
        return {"model": model, "data": data}

    return make


def settings(**changes: Any) -> EvaluateSettings:
    given = {
        "task": "summarization", "split": "test", "limit": None, "metrics": ("rouge1", "rouge2", "loss"),
        "generation": GENERATION, "precision": "fp32",
    }  # fmt: skip
    return EvaluateSettings(**{**given, **changes})


def context_of(module: Any, chosen: Any, inputs: dict[str, Path], folder: Path, rank: int = 0, world: int = 1) -> Context:
    kind = module.__name__.rpartition(".")[2]
    execution = Execution(locations={}, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
    stage = Stage(id=kind, kind=kind, key="0" * 64, needs={}, settings=chosen, execution=execution)
    folder.mkdir(exist_ok=True)
    plan: Any = SimpleNamespace(site=SimpleNamespace(offline=True))
    return Context(
        plan=plan, stage=stage, folder=folder, scratch=folder / ".scratch", inputs=inputs, rank=rank, world=world,
        device="cpu", journal=Journal(folder / "metrics.jsonl" if rank == 0 else None), progress=Progress(None, kind),
    )  # fmt: skip


def run(module: Any, chosen: Any, inputs: dict[str, Path], folder: Path) -> dict[str, Any]:
    context = context_of(module, chosen, inputs, folder)
    summary: dict[str, Any] = module.run(context.stage, context)
    return summary


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_scores_texts_and_baseline(tmp_path: Path, artifacts: Any) -> None:
    inputs = artifacts()
    folder = tmp_path / "evaluated"
    summary = run(evaluate, settings(), inputs, folder)
    found = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert set(found) == {"test", "baselines"}
    predictions = lines(folder / "predictions.test.jsonl")
    assert [record["id"] for record in predictions] == [f"test.test-{i}" for i in range(5)]
    assert [(record["source"], record["reference"]) for record in predictions] == SUMMARIES
    references = [target for _, target in SUMMARIES]
    texts = [record["prediction"] for record in predictions]
    assert len(set(texts)) > 1
    expected = score(["rouge1", "rouge2"], texts, references)
    assert {metric: found["test"][metric] for metric in expected} == expected
    # References of one sentence each: the lead is the first sentence.
    leads = [source[: source.index(".") + 1] for source, _ in SUMMARIES]
    assert found["baselines"]["lead"]["test"] == score(["rouge1", "rouge2"], leads, references)
    assert summary["metrics"]["test"]["rouge1"] == found["test"]["rouge1"]["value"]
    logged = lines(folder / "metrics.jsonl")[0]["metrics"]
    assert logged["eval/rouge1"] == found["test"]["rouge1"]["value"]
    assert logged["eval/loss"] == found["test"]["loss"]["value"]


def test_texts_that_end_at_the_limit_are_told_of(tmp_path: Path, artifacts: Any) -> None:
    """Where the checkpoint says no length, texts are as long as the plan's default, and not twenty tokens."""
    inputs = artifacts("t5")
    inputs["model"] = Path(shutil.copytree(inputs["model"], tmp_path / "silent"))
    never_ending = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "min_length": 31}
    (inputs["model"] / "generation_config.json").write_text(json.dumps(never_ending))
    chosen = settings(generation=replace(GENERATION, max_length=None, default_max_length=31), metrics=("rouge1",))
    context = context_of(evaluate, chosen, inputs, tmp_path / "evaluated")
    context.notices = Notices(tmp_path / "evaluated" / "warnings.jsonl")
    summary = evaluate.run(context.stage, context)
    assert summary["line"].endswith("; 5 of 5 texts end at the limit of 31 tokens")
    (notice,) = read_notices(tmp_path / "evaluated" / "warnings.jsonl")
    assert (notice["code"], notice["message"]) == ("R355", "5 of 5 texts end at the limit of 31 tokens")
    assert context.folder / "warnings.jsonl" in content.stage_files("evaluate", context.folder)


@pytest.mark.parametrize("family", ["bart", "mbart", "pegasus", "marian", "t5"])
def test_the_loss_is_the_models_own(tmp_path: Path, artifacts: Any, family: str) -> None:
    inputs = artifacts(family)
    run(evaluate, settings(metrics=("loss",)), inputs, tmp_path / "evaluated")
    found = json.loads((tmp_path / "evaluated" / "metrics.json").read_text("utf-8"))["test"]["loss"]["value"]
    model, rows = load_model(inputs["model"]), Rows.open(inputs["data"], "test.test")
    total = 0.0
    with torch.inference_mode():
        for i in range(rows.num_examples):  # one by one, nothing padded
            labels = torch.tensor(rows.target(i).astype("int64"))[None]
            output = model(input_ids=torch.tensor(rows.source(i).astype("int64"))[None], labels=labels)
            total += float(output.loss) * labels.numel()
    assert found == pytest.approx(total / int(rows.target_lengths.sum()), rel=1e-5)


class Together:
    """Ranks as threads: what each of them says is heard by all, in rank order. One works at a time: transformers
    loads a model by changing what is global."""

    def __init__(self, world: int) -> None:
        self.said: list[Any] = [None] * world
        self.barrier = threading.Barrier(world, timeout=60)
        self.turn = threading.Lock()

    def gather_of(self, rank: int) -> Callable[[Any], list[Any]]:
        def gather(value: Any) -> list[Any]:
            self.said[rank] = value
            self.turn.release()
            try:
                self.barrier.wait()
                heard = list(self.said)
                self.barrier.wait()
            finally:
                self.turn.acquire()
            return heard

        return gather


def run_together(
    inputs: dict[str, Path], folder: Path, world: int, stop_requested: Callable[[], bool] = lambda: False
) -> list[Any]:
    """What each rank returns, or raises."""
    together, results = Together(world), [None] * world

    def work(rank: int) -> None:
        context = context_of(evaluate, settings(), inputs, folder, rank, world)
        context.gather = together.gather_of(rank)  # type: ignore[method-assign]
        context.stop_requested = stop_requested
        with together.turn:
            try:
                results[rank] = evaluate.run(context.stage, context)
            except Exception as error:
                results[rank] = error
                if not isinstance(error, Failure):
                    together.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two rows, a shard each: three of the five rows of a set."""
    monkeypatch.setattr(engine, "MAX_ROWS", 2)
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)


def test_two_ranks_find_what_one_finds(tmp_path: Path, artifacts: Any, small_shards: None) -> None:
    inputs = artifacts(splits=("test.a", "test.b", "validation"))
    run(evaluate, settings(), inputs, tmp_path / "one")
    summary, nothing = run_together(inputs, tmp_path / "two", 2)
    assert nothing == {} and set(summary["metrics"]) == {"a", "b"}
    for name in ("predictions.a.jsonl", "predictions.b.jsonl"):
        assert (tmp_path / "two" / name).read_text("utf-8") == (tmp_path / "one" / name).read_text("utf-8")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text("utf-8")) for name in ("one", "two"))
    assert set(one) == {"a", "b", "baselines"}
    assert two["a"].pop("loss")["value"] == pytest.approx(one["a"].pop("loss")["value"], rel=1e-6)
    assert two["a"] == one["a"] and two["baselines"] == one["baselines"]
    logged = {name for line in lines(tmp_path / "two" / "metrics.jsonl") for name in line["metrics"]}
    assert logged == {f"eval/{name}/{metric}" for name in ("a", "b") for metric in ("rouge1", "rouge2", "loss")}


def test_interrupted_it_goes_on_to_the_same_files(
    tmp_path: Path, artifacts: Any, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = artifacts(splits=("test.a", "test.b"))
    run(evaluate, settings(), inputs, tmp_path / "whole")
    folder, again = tmp_path / "again", list[int]()
    generate_texts = written.generate_texts
    monkeypatch.setattr(
        written, "generate_texts",
        lambda engine, rows, ids, *more: again.extend(ids) or generate_texts(engine, rows, ids, *more),
    )  # fmt: skip

    def done() -> list[str]:
        return sorted(str(file.relative_to(folder / ".scratch")) for file in folder.rglob("0*.jsonl"))

    # Two ranks do one round and are asked to stop.
    for failure in run_together(inputs, folder, 2, lambda: True):
        assert isinstance(failure, Failure) and (failure.code, failure.exit_code) == ("R300", 130)
    assert done() == ["shards.a/00000.jsonl", "shards.a/00001.jsonl"]
    assert float((folder / ".scratch" / "seconds.json").read_text("utf-8")) > 0
    # One rank goes on and is asked to stop in the loss of the first set, whose texts are all there.
    context = context_of(evaluate, settings(), inputs, folder)
    asked = iter([False, True])
    context.stop_requested = lambda: next(asked)
    with pytest.raises(Failure, match="stopped in stage evaluate"):
        evaluate.run(context.stage, context)
    assert done() == [f"shards.a/0000{number}.jsonl" for number in range(3)]
    # A shard that was being written when the power went.
    (folder / ".scratch" / "shards.b").mkdir()
    (folder / ".scratch" / "shards.b" / "00000.123").write_text('"half', "utf-8")
    run(evaluate, settings(), inputs, folder)
    assert sorted(again) == sorted([*range(5), *range(5)])  # no row was written twice
    for name in ("predictions.a.jsonl", "predictions.b.jsonl", "metrics.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_was_written_is_kept_to_the_letter(
    tmp_path: Path, artifacts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a text holds, it is the same after it lay in a shard."""
    texts = ["a\nline\r\n", "", "\u2028 Îți \u0085", '"quoted" \\n', "\U0001f41f\x00"]
    monkeypatch.setattr(written, "generate_texts", lambda engine, rows, ids, *more: [texts[i] for i in ids])
    run(evaluate, settings(metrics=("rouge1",)), artifacts(), tmp_path / "evaluated")
    predictions = (tmp_path / "evaluated" / "predictions.test.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(line)["prediction"] for line in predictions[:-1]] == texts


def test_validation_with_a_limit(tmp_path: Path, artifacts: Any) -> None:
    inputs = artifacts(splits=("test.test", "validation"))
    chosen = settings(split="validation", limit=3, metrics=("bleu",), task="translation")
    run(evaluate, chosen, inputs, tmp_path / "evaluated")
    found = json.loads((tmp_path / "evaluated" / "metrics.json").read_text("utf-8"))
    assert set(found) == {"validation", "baselines"} and found["baselines"] == {}
    assert "tok:13a" in found["validation"]["bleu"]["signature"]
    assert len(lines(tmp_path / "evaluated" / "predictions.validation.jsonl")) == 3


@pytest.mark.slow
def test_benchmark(tmp_path: Path, artifacts: Any) -> None:
    inputs = artifacts()
    chosen = BenchmarkSettings(
        task="summarization", batch_size=2, repeats=3, examples=4, generation=GENERATION, precision="fp32", device="cpu: x"
    )  # fmt: skip
    summary = run(benchmark, chosen, inputs, tmp_path / "speed")
    found = json.loads((tmp_path / "speed" / "speed.json").read_text("utf-8"))
    assert found.items() <= summary.items()
    assert (found["device"], found["batch_size"], found["examples"], len(found["seconds"])) == ("cpu: x", 2, 4, 3)
    median = sorted(found["seconds"])[1]
    assert found["examples_per_second"] == pytest.approx(4 / median)
    assert found["latency_ms_per_example"] == pytest.approx(250 * median)
    assert 0 < found["tokens_per_second"] <= 4 * 12 / median
    assert found["parameters"] == count_parameters(load_model(inputs["model"]))
    assert 0 <= found["other_work"] == found["engines"]["transformers"]["other_work"]


@pytest.mark.parametrize(
    ("stage", "engines"),
    [
        ("benchmark-teacher", ["ctranslate2", "transformers"]),
        ("benchmark-student", ["ctranslate2", "transformers"]),
        ("benchmark-student-int8", ["ctranslate2"]),
    ],
)
def test_an_export_is_measured_in_its_form_alone(stage: str, engines: list[str]) -> None:
    chosen = BenchmarkSettings(
        task="summarization", batch_size=2, repeats=3, examples=4, precision="fp32", device="cpu: x",
        generation=replace(GENERATION, engine="ctranslate2", compute_type="int8", named=True),
    )  # fmt: skip
    found = written.engines_of(chosen, SimpleNamespace(id=stage))  # type: ignore[arg-type]
    assert [generation.engine for generation in found] == engines


@pytest.mark.slow
def test_what_goes_wrong_while_measuring_is_told(tmp_path: Path, artifacts: Any) -> None:
    """It happens in another process, and is the same diagnosis."""
    inputs = artifacts()
    chosen = BenchmarkSettings(
        task="summarization", batch_size=2, repeats=1, examples=2, precision="fp32", device="cpu: x",
        generation=replace(GENERATION, max_length=9000),
    )  # fmt: skip
    with pytest.raises(Failure, match="a text of 9000 tokens is asked for") as told:
        run(benchmark, chosen, inputs, tmp_path / "speed")
    assert told.value.code == "R320" and told.value.hint.startswith("take 64 or less")


def test_a_failure_crosses_processes_whole() -> None:
    told = Failure("R342", "message", "hint", spec_path="a.b", exit_code=75)
    again = pickle.loads(pickle.dumps(told))
    assert vars(again) == vars(told) and str(again) == "message"


def test_an_error_crosses_as_what_it_is() -> None:
    """A full disk and no memory are told by what is raised, not by its words."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    told: list[Any] = []
    parent = SimpleNamespace(send=lambda error: told.append(pickle.loads(pickle.dumps(error))))
    speed._work(SimpleNamespace(measure=full), parent)  # type: ignore[arg-type]
    assert isinstance(told[0], OSError) and told[0].errno == 28


def test_a_teacher_below_the_lead_is_told(tmp_path: Path, artifacts: Any) -> None:
    """On the console and with the artifact; of no other model."""
    inputs = artifacts()
    for id, told in (("evaluate-teacher", ["R365"]), ("evaluate-student", [])):
        context = context_of(evaluate, settings(), inputs, tmp_path / id)
        context.stage = replace(context.stage, id=id)
        context.notices = Notices(tmp_path / id / FILE, tmp_path / "shown.jsonl")
        evaluate.run(context.stage, context)
        assert [record["code"] for record in read_notices(tmp_path / id / FILE) if record["code"] == "R365"] == told
    (shown,) = (record for record in read_notices(tmp_path / "shown.jsonl") if record["code"] == "R365")
    assert "on test the teacher's rouge2 is 0.00, and that of the lead baseline" in shown["message"]
    scores = {"rouge1": {"value": 30.0}, "rouge2": {"value": 10.0}}
    assert below_baseline("test", scores, {**scores, "rouge1": {"value": 31.0}}) is None
    assert below_baseline("test", scores, {"rouge1": {"value": 30.1}}) is not None


def test_a_teacher_that_translates_nothing_is_told(tmp_path: Path, artifacts: Any) -> None:
    """No baseline is there to be beaten: what counts is a BLEU near 0."""
    inputs = artifacts()
    chosen = replace(settings(), task="translation", metrics=("bleu", "chrf", "loss"))
    for id, told in (("evaluate-teacher", ["R365"]), ("evaluate-student", [])):
        context = context_of(evaluate, chosen, inputs, tmp_path / id)
        context.stage = replace(context.stage, id=id)
        context.notices = Notices(tmp_path / id / FILE)
        evaluate.run(context.stage, context)
        records = read_notices(tmp_path / id / FILE)
        assert [record["code"] for record in records if record["code"] == "R365"] == told
    assert below_baseline("test", {"bleu": {"value": 1.0}, "chrf": {"value": 3.0}}, {}) is None
    notice = below_baseline("test", {"bleu": {"value": 0.42}}, {})
    assert notice is not None and notice.message == "on test the teacher's bleu is 0.42" and notice.spec_path == "teacher"
    assert below_baseline("test", {"loss": {"value": 9.0}}, {}) is None
