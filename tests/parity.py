"""Do both engines write the same for real sources? Run by hand on a trained model and its data:

    python tests/parity.py MODEL_FOLDER DATA_ARTIFACT [--split test.test] [--sources 500] [--beams 4]
        [--length-penalty 1.0] [--max-length 64] [--n-best 1] [--threads 2]

MODEL_FOLDER is any folder of transformers (a student, a teacher, their artifacts in the store), DATA_ARTIFACT the
folder of a `data` stage (`<workspace>/store/<key>`). Searches greedily, then with beams and `early_stopping: true`,
prints how many sources have the same hypotheses, the largest difference of scores, and both times. float32 on both
sides; a source whose two best hypotheses are closer than rounding may come out otherwise, and is printed with its
scores, which then agree. Exit code 1: fewer than 98 % of the sources are alike, or a score is more than 1e-3 away.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distilc.runtime.data.rows import Rows
from distilc.runtime.generation.choose import open_engine
from distilc.runtime.generation.conversion import convert
from distilc.runtime.models.load import model_folder
from distilc.runtime.plan.settings import GenerationSettings

SCORE_TOLERANCE = 1e-3
LEAST_ALIKE = 0.98


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test.test")
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--length-penalty", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--n-best", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    folder, rows = model_folder(asked.model), Rows.open(asked.data, asked.split)
    greedy = GenerationSettings(
        engine="ctranslate2", beams=1, length_penalty=asked.length_penalty, min_length=0, max_length=asked.max_length,
        no_repeat_ngram=0, early_stopping=None, compute_type="fp32",
    )  # fmt: skip
    beams = replace(greedy, beams=asked.beams, early_stopping=True, n_best=asked.n_best)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        converted = Path(temporary)
        reason = convert(folder, converted, "fp32")
        if reason is not None:
            print(f"ctranslate2 cannot be this model: {reason}")
            return 1
        for name, settings in (("greedy", greedy), (f"{asked.beams} beams", beams)):
            failed |= not _compare(name, settings, folder, converted, rows, min(asked.sources, rows.num_examples))
    return int(failed)


def _compare(
    name: str, settings: GenerationSettings, folder: Path, converted: Path, rows: Rows, num_sources: int
) -> bool:
    sources = [rows.source(i) for i in range(num_sources)]
    found: dict[str, dict[int, Any]] = {}
    seconds: dict[str, float] = {}
    for chosen in (settings, replace(settings, engine="transformers", compute_type=None)):
        engine = open_engine(chosen, folder, converted, precision="fp32", device="cpu", labels=rows.target(0))
        if engine.name != chosen.engine:
            print(f"{name}: {engine.note}")
            return False
        written: dict[int, Any] = {}
        started = time.perf_counter()
        engine.generate(sources, lambda at, texts, written=written: written.update(zip(at, texts, strict=True)))
        seconds[engine.name], found[engine.name] = time.perf_counter() - started, written
    fast, reference = found["ctranslate2"], found["transformers"]
    others = [i for i in range(num_sources) if _texts(fast[i]) != _texts(reference[i])]
    away = max(abs(a.score - b.score) for i in range(num_sources) for a, b in zip(fast[i], reference[i], strict=True))
    print(
        f"{name}: {num_sources - len(others)} of {num_sources} sources alike, scores at most {away:.1e} apart; "
        f"ctranslate2 {seconds['ctranslate2']:.1f} s, transformers {seconds['transformers']:.1f} s"
    )
    for i in others:
        print(f"  {i}\n    ctranslate2  {fast[i]}\n    transformers {reference[i]}")
    return num_sources - len(others) >= LEAST_ALIKE * num_sources and away <= SCORE_TOLERANCE


def _texts(hypotheses: Any) -> list[str]:
    return [one.text for one in hypotheses]


if __name__ == "__main__":
    sys.exit(main())
