"""`distilc evaluate`: handed over to the runtime."""

from __future__ import annotations

from pathlib import Path

import click

from ..diagnostics.diagnostic import did_you_mean, listed
from ..tasks.task import HAVE_TARGETS
from .hand_over import hand_over
from .options import FOLDER

TOKENIZERS = ["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"]
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _metrics(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    from ..spec.structure import load_schema

    items = load_schema("experiment").root["$defs"]["evaluation"]["properties"]["metrics"]["items"]
    known = [name for name in items["enum"] if name != "loss"]
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            hint = f"did you mean {near}?" if near else f"there is {listed(known, 'and')}"
            raise click.BadParameter(f"there is no metric {name!r} of texts or labels; {hint}", ctx, parameter)
    return list(dict.fromkeys(names))


@click.command(short_help="Score any predictions against references.")
@click.argument("predictions", type=FILE)
@click.argument("references", type=FILE, required=False)
@click.option("--task", type=click.Choice(HAVE_TARGETS),
              help="Its usual metrics. Without it: every metric of texts.")  # fmt: skip
@click.option("--metrics", multiple=True, callback=_metrics, metavar="NAME,...", help="These metrics.")
@click.option("--prediction-column", metavar="NAME", help="Default: prediction, or the only column of texts.")
@click.option("--reference-column", metavar="NAME", help="Default: reference or target, or the only column of texts.")
@click.option("--id-column", metavar="NAME", help="Default: id, where there is one.")
@click.option("--language", metavar="CODE", help="Of the texts (zh, de, ...): decides the three below.")
@click.option("--rouge-tokenizer", type=click.Choice(["default", "unicode"]),
              help="How ROUGE finds words. Default: a to z; of other languages unicode.")  # fmt: skip
@click.option("--stemmer/--no-stemmer", default=None, help="ROUGE takes English endings off. Default: of English.")
@click.option("--bleu-tokenize", type=click.Choice(TOKENIZERS), help="sacrebleu's tokenizer. Default: 13a.")
@click.option("--by", type=click.Choice(["id", "line"]), help="Default: by id where both files have ids.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-o", "--output", type=FOLDER, metavar="FILE", help="Write there, not to the terminal.")
def evaluate(
    predictions: Path, references: Path | None, task: str | None, metrics: list[str], prediction_column: str | None,
    reference_column: str | None, id_column: str | None, language: str | None, rouge_tokenizer: str | None,
    stemmer: bool | None, bleu_tokenize: str | None, by: str | None, form: str, output: Path | None,
) -> None:  # fmt: skip
    """Score PREDICTIONS, whoever made them, with the code that fills the result table of a run.

    \b
    Example:  distilc evaluate bertabs.txt test.jsonl --task summarization
              distilc evaluate theirs.jsonl test.csv --metrics bleu,chrf --format json -o scores.json
              distilc evaluate .distilc/store/KEY/predictions.test.jsonl
              distilc evaluate classes.csv test.jsonl --metrics accuracy,macro_f1,matthews

    Files are .txt (a text a line), .jsonl, .json, .csv, .tsv or .parquet. Rows are aligned by id where both files
    have ids, else line by line; a row without a partner is a diagnosis. A row may have a list of references.
    Without REFERENCES they are looked for beside the predictions, as in the files of a run.

    A system of others as a row in the table of a run: `baselines` in its spec.

    Exit codes: 0 scored, 1 the files do not fit together or cannot be read, 2 wrong usage.
    """
    words = ["evaluate", str(predictions), *([str(references)] if references else [])]
    from ..resolve.scoring import DEFAULT, chosen_scoring

    scoring = chosen_scoring(language, rouge_tokenizer, stemmer, bleu_tokenize)
    for metric in metrics:
        words += ["--metric", metric]
    given = {
        "--task": task, "--prediction-column": prediction_column, "--reference-column": reference_column,
        "--id-column": id_column, "--by": by, "--format": form, "--output": output,
        "--rouge-tokenizer": scoring.rouge_tokenizer if scoring.rouge_tokenizer != DEFAULT.rouge_tokenizer else None,
        "--stemmer": "no" if not scoring.stemmer else None,
        "--bleu-tokenize": scoring.bleu_tokenize if scoring.bleu_tokenize != DEFAULT.bleu_tokenize else None,
    }  # fmt: skip
    for option, value in given.items():
        words += [f"{option}={value}"] if value is not None else []
    hand_over(words)
