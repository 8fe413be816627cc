"""`distilc predict`: handed over to the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .hand_over import hand_over
from .options import FOLDER, SITE, WORKSPACE, site_of

FILE = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
COUNT = click.IntRange(min=1)


@click.command(short_help="Use a student on a file.")
@click.argument("student", metavar="STUDENT")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FOLDER, metavar="OUT", help="Default: the terminal, as JSON lines.")
@click.option("--column", metavar="NAME", help="That of the sources. Default: the one that the student was trained on.")
@click.option("--id-column", metavar="NAME", help="Default: id, where there is one.")
@click.option("--pair-column", metavar="NAME", help="Of a classifier of pairs: that of the second texts.")
@click.option(
    "--candidate-labels", metavar="A,B", help="Which of these a text is about, by a student of inference (zero-shot)."
)
@click.option("--hypothesis-template", metavar="TEXT", help='Of zero-shot, with {}. Default: "This example is {}."')
@click.option("--multi-label", is_flag=True, help="Of zero-shot: each label by itself; several may hold.")
@click.option("--beams", type=COUNT, metavar="N", help="Default of this and the next four: as the run evaluated it.")
@click.option("--length-penalty", type=float, metavar="X")
@click.option("--min-length", type=click.IntRange(min=0), metavar="N", help="Tokens.")
@click.option("--max-length", type=COUNT, metavar="N", help="Tokens.")
@click.option("--no-repeat-ngram", type=click.IntRange(min=0), metavar="N")
@click.option("--prefix", metavar="TEXT", help='Before every source, as "summarize: ". Default: as it was trained.')
@click.option("--source-language", metavar="CODE", help="Of mBART: en_XX. Default: as it was trained.")
@click.option("--target-language", metavar="CODE", help="Of mBART: ro_RO. Default: as it was trained.")
@click.option("--max-source-tokens", type=COUNT, metavar="N", help="Longer ones are cut. Default: as it was trained.")
@click.option("--batch-size", type=COUNT, metavar="N", help="Sources at a time. Default: by their lengths.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Default: cuda where there is one.")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: fp32 on a CPU.")
@click.option("--engine", type=click.Choice(["auto", "ctranslate2", "transformers"]), default="auto", show_default=True)
@WORKSPACE
@SITE
def predict(student: str, file: Path, workspace: Path | None, site: Path | None, **options: Any) -> None:
    """Write the texts of a STUDENT for the sources in FILE, in their order; of a classifier, their classes.

    \b
    Example:  distilc predict my-run articles.txt -o summaries.txt
              distilc predict .distilc/runs/my-run-1a2b3c4d test.jsonl -o theirs.jsonl
              distilc predict ./any-model articles.csv --column body --prefix "summarize: " --beams 4
              head -3 articles.txt | distilc predict my-run -
              distilc predict my-nli news.txt --candidate-labels sports,politics,weather

    STUDENT is a run of the workspace (its name, with or without the end of its key), the folder of a run, or a
    folder with any model of the supported families. How it was trained to read (prefix, languages, lengths) and
    how its run generated is taken from the plan beside it or from its model card; options win.

    FILE is .txt (a source a line), .jsonl, .json, .csv, .tsv or .parquet; - is the standard input, a source a
    line, or JSON lines where it begins with {. OUT has a line a source: the text alone
    where it ends in .txt, else JSON with source, prediction and the id that FILE has. It appears whole; an
    interrupted command goes on when it is given again. A classifier adds the probability of each class.

    Exit codes: 0 written, 1 the student or the file is not right, 2 wrong usage, 130 interrupted (resumable).
    """
    words = ["predict", student, str(file), f"--workspace={site_of(workspace=workspace, site=site).workspace}"]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and value is not False:
            words.append(option if value is True else f"{option}={value}")
    hand_over(words)
