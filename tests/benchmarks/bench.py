"""`make bench`: the speed goals, as ratios within one run, medians of several.

    python tests/benchmarks/bench.py [NAME...]      (all benchmarks, or those whose name begins so)

Each benchmark is one function `bench_*` that prints nothing and returns rows; the table goes to stdout.
Nothing here is a test: a slow machine is not a fault.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from measure import Row, median_seconds, seconds_of

ROOT = Path(__file__).resolve().parent.parent.parent


def main(names: list[str]) -> int:
    """Run the chosen benchmarks and print their rows as a Markdown table."""
    chosen = [bench for bench in BENCHMARKS if not names or any(bench.__name__.startswith(f"bench_{n}") for n in names)]
    print("| what | measured | goal | met |")
    print("|---|---|---|---|")
    for bench in chosen:
        for row in bench():
            met = "" if row.met is None else "yes" if row.met else "NO"
            print(f"| {row.what} | {row.measured} | {row.goal} | {met} |", flush=True)
    return 0


def bench_check() -> Iterator[Row]:
    """Cold `distilc check` of a good spec against the bare import of what such a program is usually made of, each a new
    process, in turns. Its modules are compiled, as after any first use. Seconds of the processor: other programs
    make both wait."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def cpu_seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    check = ("-m", "distilc.compiler", "check", str(ROOT / "specs" / "quickstart.yaml"))
    bare = ("-c", "import jsonschema, ruamel.yaml, click")
    cpu_seconds(*check)
    pairs = [(cpu_seconds(*check), cpu_seconds(*bare)) for _ in range(21)]
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    low, high = ratios[5], ratios[15]  # of 21, the 6th on either side: the median lies between with 97 percent
    ours, theirs = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    measured = f"{ratios[10]:.2f} x ({low:.2f} to {high:.2f}; {ours:.2f} s of {theirs:.2f} s)"
    yield Row("`distilc check`, cold / import of jsonschema, ruamel.yaml, click", measured, "<= 1.3 x", high <= 1.3)


def bench_matrix() -> Iterator[Row]:
    """`distilc check` and `distilc compile` of a spec with a matrix of a thousand runs."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "thousand.yaml")
        spec.write_text(f"extends: {ROOT / 'specs' / 'recipes' / 'sft.yaml'}\n{THOUSAND}", "utf-8")
        distilc = [sys.executable, "-m", "distilc.compiler"]
        workspace = ["--workspace", str(Path(folder, "workspace"))]

        def compile_all() -> None:
            shutil.rmtree(Path(folder, "plans"), ignore_errors=True)
            output = ["-o", str(Path(folder, "plans"))]
            subprocess.run([*distilc, "compile", str(spec), *output, *workspace], check=True, capture_output=True)
            assert len(list(Path(folder, "plans").iterdir())) == 1000

        check = [*distilc, "check", str(spec), *workspace]
        seconds = median_seconds(lambda: subprocess.run(check, check=True, capture_output=True), times=5)
        yield Row("`distilc check`, a matrix of 1,000 runs", f"{seconds:.2f} s", "<= 3 s", seconds <= 3)
        seconds = median_seconds(compile_all, times=3)
        yield Row("`distilc compile`, a matrix of 1,000 runs", f"{seconds:.2f} s", "<= 10 s", seconds <= 10)


THOUSAND = """\
matrix:
  student.decoder_layers: [1, 2, 3, 4, 5]
  training.learning_rate: [1.0e-3, 5.0e-4, 3.0e-4, 2.0e-4, 1.0e-4]
  batch.tokens: [1024, 2048, 4096, 8192]
  training.warmup.steps: [0, 50, 100, 200, 500]
seeds: [1, 2]
"""


def bench_step() -> Iterator[Row]:
    """A step on labels alone of our loop (DeepSpeed engine, ZeRO 0) against a bare PyTorch loop: same model, same
    batches, in turns; half of the pairs lie in the range."""
    for kind in ("fine-tuning", "classification", "masked-lm"):
        low, ratio, high, tokens = _of_process(f"_step_ratio({kind!r})")
        measured = f"{ratio:.3f} x ({low:.3f} to {high:.3f})"
        yield Row(f"{kind} step / bare PyTorch loop ({tokens:,} tokens a step)", measured, "<= 1.03 x", ratio <= 1.03)


def bench_head() -> Iterator[Row]:
    """The head's loss in chunks against plain logits: labels and forward KL over 4,096 tokens, a vocabulary of
    50,265, width 512, the projection frozen. A process each, so that the peaks are their own."""
    figures = {kind: _of_process(f"_head_cost({kind!r})") for kind in ("plain", "chunked")}
    memory = figures["chunked"]["megabytes"] / figures["plain"]["megabytes"]
    seconds = figures["chunked"]["seconds"] / figures["plain"]["seconds"]
    sizes = " of ".join(f"{figures[kind]['megabytes']:,.0f} MB" for kind in ("chunked", "plain"))
    yield Row("peak memory of the loss, chunked / plain", f"{memory:.2f} x ({sizes})", "<= 0.25 x", memory <= 0.25)
    yield Row("time of the loss, chunked / plain", f"{seconds:.2f} x", "<= 1.1 x", seconds <= 1.1)


def bench_distillation() -> Iterator[Row]:
    """Distillation over 5 epochs against the 2020 algorithm and transformers' trainer (`distillation/`)."""
    for row in _of_process("_rows_of('distillation.benchmark', 'benchmark')"):
        yield Row(**row)


def _rows_of(module: str, name: str) -> list[dict[str, Any]]:
    return [asdict(row) for row in getattr(import_module(module), name)()]


def _of_process(call: str) -> Any:
    """What a function of this file returns in a process of its own. This one stays small and joins no process group:
    a child's peak of memory is never below that of its parent, and its environment is its parent's."""
    command = [sys.executable, "-c", f"import bench, json; print(json.dumps(bench.{call}))"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent).stdout
    return json.loads(found.strip().splitlines()[-1])


def _head_cost(kind: str) -> dict[str, float]:
    import resource
    from types import SimpleNamespace

    import psutil
    import torch
    from torch.nn import functional

    from distilc.runtime.objective.divergence import divergence_sum
    from distilc.runtime.objective.head import HeadTerms
    from distilc.runtime.objective.terms import labels_term

    torch.manual_seed(0)
    linear = torch.nn.Linear(512, 50_265, bias=False).requires_grad_(False)
    rows, theirs = (torch.randn(4096, 512) for _ in range(2))
    labels = torch.randint(0, 50_265, (4096,))
    head: Any = SimpleNamespace(linear=linear, bias=None, scale=1.0)
    chunked = HeadTerms.__new__(HeadTerms)
    torch.nn.Module.__init__(chunked)
    chunked.student = head

    def theirs_of(start: int, end: int) -> Any:
        with torch.no_grad():
            return functional.linear(theirs[start:end], linear.weight)

    def terms(start: int, end: int, logits: Any, teacher: Any) -> Any:
        values = [labels_term(logits, labels[start:end], 0.0), divergence_sum(logits, teacher, "forward-kl", 2.0)]
        return torch.stack(values).sum() / 4096, torch.stack([value.detach() for value in values])

    def once() -> None:
        leaf = rows.clone().requires_grad_()
        if kind == "plain":
            loss, _ = terms(0, 4096, functional.linear(leaf, linear.weight), theirs_of(0, 4096))
        else:
            loss, _ = chunked(leaf, terms, 2, True, theirs_of)
        loss.backward()

    before = psutil.Process().memory_info().rss
    once()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"megabytes": peak / 1e6, "seconds": median_seconds(once, times=2)}


def _step_ratio(kind: str) -> tuple[float, float, float, int]:
    """Quartiles of ours / theirs, and tokens of a step."""
    import copy

    import torch
    from torch.nn import functional

    from distilc.runtime.execution.processes import join
    from distilc.runtime.objective.objective import Objective, factors_of
    from distilc.runtime.plan.settings import LabelsTerm, ObjectiveSettings
    from distilc.runtime.training.engine import backward

    join("cpu")
    model, batches = _written_texts() if kind == "fine-tuning" else _read_texts(kind)
    bare = copy.deepcopy(model)
    labels = LabelsTerm(weight=1.0, smoothing=0.0)
    off = {name: None for name in ("logits", "hidden", "attention", "cosine", "embedding", "phi")}
    objective = Objective(model, ObjectiveSettings(labels=labels, own={}, **off), ())
    engine = _engine(objective)
    engine.train()
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-4, weight_decay=0.0)
    bare.train()
    num_labels = int(sum((batch["labels"] != -100).sum() for batch in batches))

    def ours() -> None:
        for index, batch in enumerate(batches):
            share, _ = engine(batch, factors_of({"label-tokens": num_labels}, world=1))
            backward(engine, share, last=index == len(batches) - 1)
        engine.step()

    def theirs() -> None:
        optimizer.zero_grad()
        for batch in batches:
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            if kind == "fine-tuning":
                inputs["decoder_input_ids"] = bare.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
                inputs["use_cache"] = False
            logits = bare(**inputs).logits
            loss = functional.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten(), reduction="sum")
            (loss / num_labels).backward()
        torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
        optimizer.step()

    ours(), theirs()
    ratios = [seconds_of(ours) / seconds_of(theirs) for _ in range(11)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    if kind == "fine-tuning":
        tokens += num_labels
    return (*statistics.quantiles(ratios, n=4), tokens)


def _written_texts() -> tuple[Any, list[Any]]:
    """A Marian 6-3, and the batches of one step."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    from distilc.runtime.data.batches import collate

    torch.manual_seed(0)
    model = MarianMTModel(
        MarianConfig(vocab_size=8000, d_model=256, encoder_layers=6, decoder_layers=3, encoder_attention_heads=8,
                     decoder_attention_heads=8, encoder_ffn_dim=1024, decoder_ffn_dim=1024, pad_token_id=0, eos_token_id=1,
                     decoder_start_token_id=0, forced_eos_token_id=1, max_position_embeddings=256, scale_embedding=True)
    )  # fmt: skip
    rows = _rows(num_rows=192)
    return model, [collate(rows, range(start, start + 48), pad_id=0) for start in (0, 48, 96, 144)]


def _read_texts(kind: str) -> tuple[Any, list[Any]]:
    """A BERT of 6 layers, and the batches of one step: one class of three a row, or 15 percent of the tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=8000, hidden_size=256, num_hidden_layers=6, num_attention_heads=8,
                        intermediate_size=1024, max_position_embeddings=128, num_labels=3)  # fmt: skip
    model = BertForSequenceClassification(config) if kind == "classification" else BertForMaskedLM(config)
    batches = []
    for longest in (24, 32, 48, 64):
        lengths = torch.randint(longest // 2, longest + 1, (32,))
        mask = (torch.arange(longest) < lengths[:, None]).long()
        ids = torch.randint(5, 8000, (32, longest)) * mask
        if kind == "classification":
            labels = torch.randint(0, 3, (32,))
        else:
            labels = torch.where((torch.rand(ids.shape) < 0.15) & mask.bool(), ids, -100)
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return model, batches


def _engine(objective: Any) -> Any:
    import deepspeed
    import torch

    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, weight_decay=0.0)
    config = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0,
              "zero_allow_untested_optimizer": True, "zero_optimization": {"stage": 0}, "steps_per_print": 10**9}  # fmt: skip
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=config)
    return engine


def _rows(num_rows: int) -> Any:
    """Rows with the lengths of a translation corpus: some 30 tokens on each side."""
    import numpy as np

    from distilc.runtime.data.rows import Rows, write_rows

    generator = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    lengths = np.sort(generator.gamma(9.0, 2.8, (num_rows, 2)).astype(int) + 4, axis=0)
    texts = {"id": "", "source": "", "target": ""}
    write_rows(folder, "train", [
        (generator.integers(4, 8000, source), generator.integers(4, 8000, target), texts) for source, target in lengths
    ])  # fmt: skip
    return Rows.open(folder, "train")


def bench_generation() -> Iterator[Row]:
    """Both engines against plain loops of `generate`: examples a second on two cores."""
    for row in _of_process("_rows_of('generation.benchmark', 'measure')"):
        yield Row(**row)


BENCHMARKS = (bench_check, bench_matrix, bench_step, bench_head, bench_distillation, bench_generation)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
