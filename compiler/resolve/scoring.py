"""How texts are scored: the tokenizers of ROUGE and BLEU, as the spec says or as the language of the targets asks for.

What is not said and for no known language is what the field takes: ROUGE's own tokenizer with Porter's stemmer, which
knows ASCII letters and English endings only, and 13a for BLEU, which takes words to stand between spaces. A plan is
without what is so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..diagnostics.record import record
from ..extensions.built_in import built_in, metrics_set_by
from ..spec.experiment import Experiment
from ..spec.ways import trainings
from ..tasks.task import LABEL_METRICS, TASKS

# Of languages, by ISO 639-1 and 639-3, that put no spaces between words. (Mecab's are dictionaries of their own.)
_BLEU_OF: Mapping[str, str] = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue", "wuu"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "char"),
}
_ENGLISH = ("en", "eng")


@record
class Scoring:
    """As resolved: ROUGE's tokenizer and stemmer, BLEU's tokenizer."""

    rouge_tokenizer: str
    stemmer: bool
    bleu_tokenize: str


DEFAULT = Scoring("default", True, "13a")


def resolve_scoring(experiment: Experiment) -> Scoring:
    """What the spec says, and for the rest what the language of the targets asks for."""
    evaluation = experiment.evaluation
    rouge = evaluation.rouge
    return chosen_scoring(experiment.data.target_language, rouge.tokenizer, rouge.stemmer, evaluation.bleu.tokenize)


def chosen_scoring(
    target_language: str | None, tokenizer: str | None, stemmer: bool | None, bleu_tokenize: str | None
) -> Scoring:
    """What is asked for; of what is not (None), as the language has it (None: it is not known)."""
    language = _language(target_language)
    if tokenizer is None:
        tokenizer = "default" if language is None or language in _ENGLISH else "unicode"
    if stemmer is None:
        stemmer = tokenizer == "default" or language in _ENGLISH
    return Scoring(tokenizer, stemmer, bleu_tokenize or _BLEU_OF.get(language or "", "13a"))


def scoring_settings(experiment: Experiment, metrics: Iterable[str], *, line_break: bool) -> dict[str, Any]:
    """Of a stage that measures these metrics: what is not as usual. `line_break`: a model that writes `<n>` for one has
    to do with it."""
    measured, found, usual = set(metrics), resolve_scoring(experiment), DEFAULT
    settings: dict[str, Any] = {}
    if measured & {*metrics_set_by("rouge")}:
        settings |= {"rouge_tokenizer": found.rouge_tokenizer} if found.rouge_tokenizer != usual.rouge_tokenizer else {}
        settings |= {"stemmer": found.stemmer} if found.stemmer != usual.stemmer else {}
    if "bleu" in measured and found.bleu_tokenize != usual.bleu_tokenize:
        settings["bleu_tokenize"] = found.bleu_tokenize
    if line_break and measured - {"loss"}:
        settings["line_break"] = "<n>"
    return {"scoring": settings} if settings else {}


def label_metrics(task: str, rules: Mapping[str, Any]) -> list[str]:
    """The metrics that labels get: the task's own, and those that a rule of `keep` asks for."""
    asked = [metric for metric in LABEL_METRICS if rules.get(f"min_{metric}") is not None]
    own = TASKS[task].label_metric
    return [*([own] if own is not None else []), *asked]


def measured(experiment: Experiment) -> set[str]:
    """All metrics of texts that a run measures; those of packages among them, whatever they need."""
    found = {*experiment.evaluation.metrics}
    for part in (*experiment.earlier_phases, *(part for _, part in trainings(experiment))):
        found |= {*part.validation.metrics}
    for name in experiment.targets:
        if (labeller := experiment.pseudo_labels.get(name)) is not None:
            rules = {f"min_{metric}": getattr(labeller, f"min_{metric}") for metric in LABEL_METRICS}
            found |= {*label_metrics(experiment.task, rules)}
    ours = built_in("metrics")
    return {name for name in found if name not in ours or ours[name]["needs"] == "texts"}


def language_decides(experiment: Experiment) -> bool:
    """Does a metric that is measured depend on the language of the targets?"""
    evaluation, language = experiment.evaluation, _language(experiment.data.target_language)
    asked = measured(experiment)
    open_rouge = evaluation.rouge.tokenizer is None or evaluation.rouge.stemmer is None
    rouge = bool(asked & {*metrics_set_by("rouge")}) and open_rouge
    bleu = "bleu" in asked and evaluation.bleu.tokenize is None
    return (rouge and language not in (None, *_ENGLISH)) or (bleu and language in _BLEU_OF)


def _language(code: str | None) -> str | None:
    """`zh_CN`, `cmn_Hans`, `zh-Hant` -> the language alone."""
    return None if code is None else re.split(r"[_-]", code.lower())[0]
